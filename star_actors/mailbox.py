"""The bounded mailbox of an actor."""

from __future__ import annotations

from collections.abc import Generator
from types import coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectStreamStatistics

if TYPE_CHECKING:
    from .dispatcher import Actor, Dispatcher

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A bounded anyio memory stream with one owner, which the dispatcher steps when something has come.

    `put` never waits: the protocol bounds what can be under way, so a full mailbox (`anyio.WouldBlock`) is a defect.
    All on the event loop's thread.
    """

    __slots__ = ("_receive", "_send", "_size", "owner")

    def __init__(self, capacity: int) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[T](capacity)
        self._size = 0
        self.owner: tuple[Dispatcher, Actor] | None = None

    def put(self, message: T) -> None:
        """Add a message and wake the owner where it waits. Raises anyio.BrokenResourceError once closed."""
        self._send.send_nowait(message)
        self._size += 1
        if self.owner is not None:
            dispatcher, actor = self.owner
            self.owner = None
            dispatcher.wake(actor)

    @coroutine
    def get(self) -> Generator[Any, Any, T]:
        """Wait for the next message. To be awaited by the owner only."""
        while not self._size:
            yield self
        self._size -= 1
        return self._receive.receive_nowait()

    def statistics(self) -> MemoryObjectStreamStatistics:
        """How full it is, as anyio tells it."""
        return self._receive.statistics()

    def close(self) -> None:
        """Close both ends; messages that nobody took are gone."""
        self.owner = None
        self._send.close()
        self._receive.close()
