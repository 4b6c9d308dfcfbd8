"""What a worker process runs: a host, and the socket to the run."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import sys
import threading
import time
import types
from typing import Any, Literal

from .channel import Channel
from .host import Host
from .outbox import Outbox
from .segments import hold_once
from .wire import Printed, Unready

__all__ = ["main"]

Stream = Literal["stdout", "stderr"]

PATIENCE = 5.0
"""Seconds that a worker whose run is gone gives its own code to end, where nobody is left to kill it."""


def main(fd: int) -> None:
    """Serve the run at the other end of the socket `fd`, until that end is shut."""
    # The run says when to stop; a Ctrl-C in the terminal is for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Names of the caller's script come to stand here; this process has no script of its own.
    sys.modules["__main__"] = types.ModuleType("__main__")
    channel = Channel(socket.socket(fileno=fd))
    try:
        batch = channel.receive(wait=True)
    except EOFError:  # the run ended before it had begun
        return
    assert batch is not None
    try:
        host = Host(batch[0], _Delivery(channel), channel.segments.hold, hold_once)
    except Exception as error:
        channel.send([Unready(f"the classes cannot be opened there: {type(error).__name__}: {error}")])
        return
    sys.stdout, sys.stderr = _printing("stdout", host.outbox), _printing("stderr", host.outbox)
    os.register_at_fork(after_in_child=lambda: _let_go(channel, host.outbox))
    reader = threading.Thread(target=_read, args=(channel, host), name="star-reader", daemon=True)

    def begin() -> None:
        host.receive(batch[1:])
        reader.start()

    asyncio.run(host.run(ready=begin))
    sys.stdout.flush()
    sys.stderr.flush()


def _let_go(channel: Channel, outbox: Outbox) -> None:
    """In a child that user code has forked: the way to the run is the parent's, and what is printed goes to the
    terminal."""
    outbox.forget()
    channel.socket.close()
    for name, fd in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, os.fdopen(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False))


class _Delivery:
    """Sends batches to the run; once it is gone, there is nobody to tell."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __call__(self, batch: list[Any]) -> None:
        try:
            self._channel.send(batch)
        except ConnectionError:
            return


def _read(channel: Channel, host: Host) -> None:
    try:
        while True:
            host.receive(channel.receive(wait=True) or ())
    except EOFError:
        pass
    host.stop()
    time.sleep(PATIENCE)
    os._exit(1)


class _Prints(io.RawIOBase):
    """Sends what is printed to the run, which prints it where the caller sees it."""

    def __init__(self, stream: Stream, outbox: Outbox) -> None:
        self._stream: Stream = stream
        self._outbox = outbox

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        text = bytes(data)
        self._outbox.add(Printed(self._stream, text.decode("utf-8", "replace")))
        self._outbox.flush()
        return len(text)


def _printing(stream: Stream, outbox: Outbox) -> io.TextIOWrapper:
    raw = io.BufferedWriter(_Prints(stream, outbox))
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)
