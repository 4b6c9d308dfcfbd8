"""How a node's process ends: asleep until the platform stops it, and at once when it does."""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

__all__ = ["Stop"]

STOPPED = 128 + signal.SIGTERM
GRACE = 5.0
"""Seconds that the main thread has for its own clean-up once the platform has stopped the node."""


class Stop:
    """The platform's word to stop: SIGTERM, which process 1 of a container ignores unless it has a handler.

    A handler is set where none is, on the main thread; a handler of the user's own is left alone. `requested` says
    that the word has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._call: Callable[[], object] | None = None
        self._finished = False
        self._word: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put is safe in a signal handler
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) in (
            signal.SIG_DFL,
            signal.SIG_IGN,
        ):
            signal.signal(signal.SIGTERM, self._heard)

    @contextmanager
    def calling(self, call: Callable[[], object]) -> Iterator[None]:
        """While inside, the word is answered by `call`, in the signal handler: it must be short.

        Once this was left without an error, the node has finished, and the word stops it in the middle of nothing.
        """
        self._call = call
        try:
            yield
            self._finished = True
        finally:
            self._call = None

    def wait(self) -> NoReturn:
        """Sleep until the platform stops the node, then end the process with status 0."""
        # A signal that comes in the moment before a wait does not end it: no wait is for long.
        while not self.requested:
            with suppress(queue.Empty):
                self._word.get(timeout=1.0)
        _end(0)

    def exit(self) -> NoReturn:
        """End the process of a node that was stopped in the middle of a run."""
        _end(STOPPED)

    def _heard(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True
        self._word.put(None)
        if not threading.main_thread().is_alive():
            _end_now(STOPPED)  # the script has ended with an error: only the threads of the SDK are left
        if self._call is not None:
            self._call()
        elif not self._finished:
            self.exit()


def _end(status: int) -> NoReturn:
    """SystemExit here, so that the caller's own clean-up runs, and the end of the process soon after.

    The SDK's server thread is not a daemon, so that the interpreter alone would wait for it for ever.
    """
    threading.Thread(target=_end_after_main, args=(status,), name="star_actors end", daemon=True).start()
    raise SystemExit(status)


def _end_after_main(status: int) -> None:
    threading.main_thread().join(GRACE)
    _end_now(status)


def _end_now(status: int) -> NoReturn:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(status)
