"""The bounded mailbox of an actor."""

from __future__ import annotations

from collections.abc import Generator
from types import coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectStreamStatistics

if TYPE_CHECKING:
    from .dispatcher import Actor

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A bounded anyio memory stream with one owner, which the dispatcher steps when something has come.

    `put` never waits: the protocol bounds what can be under way, so a full mailbox (`anyio.WouldBlock`) is a defect.
    All on the event loop's thread.
    """

    __slots__ = ("_receive", "_receive_nowait", "_send", "_send_nowait", "_size", "owner")

    def __init__(self, capacity: int) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[T](capacity)
        self._send_nowait = self._send.send_nowait
        self._receive_nowait = self._receive.receive_nowait
        self._size = 0
        self.owner: Actor | None = None

    def put(self, message: T) -> None:
        """Add a message and wake the owner where it waits. Raises anyio.BrokenResourceError once closed."""
        self._send_nowait(message)
        self._size += 1
        owner = self.owner
        if owner is not None:
            self.owner = None
            owner.wake(owner)

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait for the next message. To be awaited by the owner only."""
        while not self._size:
            yield self
        self._size -= 1
        return self._receive_nowait()

    @coroutine
    def drain(self) -> Generator[Any, Any, list[T]]:
        """Wait for a message, and take all that there are."""
        while not self._size:
            yield self
        size, self._size = self._size, 0
        receive = self._receive_nowait
        return [receive() for _ in range(size)]

    def statistics(self) -> MemoryObjectStreamStatistics:
        """How full it is, as anyio tells it."""
        return self._receive.statistics()

    def close(self) -> None:
        """Close both ends; messages that nobody took are gone."""
        self.owner = None
        self._send.close()
        self._receive.close()
