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

    A message for an owner that waits is handed to it, as anyio's own streams do; the stream holds what comes meanwhile.
    `put` never waits: the protocol bounds what can be under way, so a full mailbox (`anyio.WouldBlock`) is a defect.
    All on the event loop's thread.
    """

    __slots__ = ("_receive", "_send", "_size", "owner")

    def __init__(self, capacity: int) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[T](capacity)
        self._size = 0
        self.owner: Actor | None = None

    def put(self, message: T) -> None:
        """Hand a message to the owner where it waits, else keep it. Raises anyio.BrokenResourceError once closed."""
        owner = self.owner
        if owner is None:
            self._send.send_nowait(message)
            self._size += 1
        else:
            self.owner = None
            owner.dispatcher.wake(owner, message)

    @coroutine
    def receive(self) -> Generator[Any, Any, T]:
        """Wait for the next message. To be awaited by the owner only."""
        if not self._size:
            message: T = yield self
            return message
        self._size -= 1
        return self._receive.receive_nowait()

    @coroutine
    def drain(self) -> Generator[Any, Any, list[T]]:
        """Wait for a message, and take all that there are."""
        first: list[T] = [] if self._size else [(yield self)]
        size, self._size = self._size, 0
        receive = self._receive.receive_nowait
        return first + [receive() for _ in range(size)]

    def statistics(self) -> MemoryObjectStreamStatistics:
        """How full it is, as anyio tells it."""
        return self._receive.statistics()

    def close(self) -> None:
        """Close both ends; messages that nobody took are gone."""
        self.owner = None
        self._send.close()
        self._receive.close()
