"""The actor that lives on a Dask worker: a host on a thread of its own, and its messages as bundles of bytes."""

from __future__ import annotations

import asyncio
import ctypes
import pickle
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from ..errors import NodeStopped
from .host import Host
from .wire import Unready

__all__ = ["HostActor", "bundled", "unbundled"]

Bundle = list[Any]
"""A batch of messages: its pickle, and the large buffers out of it, which Dask carries as they are."""


def bundled(messages: Sequence[Any]) -> Bundle:
    """A batch of messages for the other side."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(list(messages), protocol=5, buffer_callback=buffers.append)
    if not buffers:
        return [data]
    import numpy as np

    return [data, *(np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers)]


def unbundled(bundle: Sequence[Any]) -> list[Any]:
    """The messages that `bundled` was given."""
    data, *buffers = bundle
    messages: list[Any] = pickle.loads(data, buffers=buffers)
    return messages


class HostActor:
    """One host. Dask calls `receive` on its thread for actors, and awaits the others on the worker's event loop."""

    def __init__(self) -> None:
        self._host: Host | None = None
        self._thread: threading.Thread | None = None
        self._outgoing = _Outgoing()

    def receive(self, *bundle: Any) -> None:
        """Take messages from the run; the first of all says what the host is to be."""
        messages = unbundled(bundle)
        if self._host is None:
            try:
                self._host = Host(messages.pop(0), self._outgoing.add, _never, _never)
            except Exception as error:
                text = f"the classes cannot be opened there: {type(error).__name__}: {error}"
                self._outgoing.add([Unready(text)])
                return
            ready = threading.Event()
            self._thread = threading.Thread(
                target=_serve, args=(self._host, self._outgoing, ready), name="star-host", daemon=True
            )
            self._thread.start()
            ready.wait()
        self._host.receive(messages)

    async def collect(self) -> Bundle:
        """Wait for messages to the run, and give all there are; none at the end."""
        return bundled(await self._outgoing.take())

    async def stop(self, patience: float) -> bool:
        """End the host; whether it has ended within so many seconds. Methods that do not return are left behind, with
        an exception thrown into them."""
        host, thread = self._host, self._thread
        if host is None or thread is None:
            self._outgoing.close()
            return True
        host.stop()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        # A thread that ends tells no event loop.
        while thread.is_alive() and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        self._outgoing.close()
        if not thread.is_alive() and not host.left_behind:
            return True
        for ident in host.busy_threads:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(NodeStopped))
        return False

    def __del__(self) -> None:
        # The worker has let go of the actor: the run is over, or its process is gone.
        if self._host is not None:
            self._host.stop()


class _Outgoing:
    """Batches for the run, added on any thread and taken on the worker's event loop."""

    def __init__(self) -> None:
        self._batches: deque[list[Any]] = deque()
        self._bell: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def add(self, batch: list[Any]) -> None:
        """Add a batch."""
        self._batches.append(batch)
        self._ring()

    def close(self) -> None:
        """Nothing more is waited for."""
        self._closed = True
        self._ring()

    def _ring(self) -> None:
        if self._loop is not None and self._bell is not None:
            try:
                self._loop.call_soon_threadsafe(self._bell.set)
            except RuntimeError:  # the worker is closing
                return

    async def take(self) -> list[Any]:
        """The messages of all batches, once there are some or nothing more is waited for."""
        if self._bell is None:
            self._bell, self._loop = asyncio.Event(), asyncio.get_running_loop()
        while not self._batches and not self._closed:
            self._bell.clear()
            if not self._batches and not self._closed:
                await self._bell.wait()
        return [message for _ in range(len(self._batches)) for message in self._batches.popleft()]


def _serve(host: Host, outgoing: _Outgoing, ready: threading.Event) -> None:
    try:
        asyncio.run(host.run(ready=ready.set))
    except Exception as error:  # the run must hear of it, or it would wait for ever
        outgoing.add([Unready(f"{type(error).__name__}: {error}")])
    finally:
        ready.set()


def _never(size: int, parts: Sequence[tuple[int, memoryview]]) -> None:
    """No memory is shared with another machine."""
