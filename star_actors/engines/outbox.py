"""An outbox: messages from many threads, delivered in order and in batches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Outbox"]


class Outbox:
    """Whoever flushes delivers everything; where somebody is at it already, it is left to them. So a finalizer that
    logs or prints in the middle of a delivery neither waits nor overtakes."""

    def __init__(self, deliver: Callable[[list[Any]], None]) -> None:
        self._deliver = deliver
        self._messages: deque[Any] = deque()
        self._delivering = threading.Lock()

    def add(self, message: Any) -> bool:
        """Add a message; True where it is the first of its batch."""
        self._messages.append(message)
        return len(self._messages) == 1

    def forget(self) -> None:
        """In a forked child: what waits here is the parent's to deliver, and nothing more is."""
        self._messages.clear()
        self._deliver = lambda batch: None
        self._delivering = threading.Lock()

    def flush(self) -> None:
        """Deliver all messages."""
        while self._messages:
            if not self._delivering.acquire(blocking=False):
                return
            try:
                batch = [self._messages.popleft() for _ in range(len(self._messages))]
                if batch:
                    self._deliver(batch)
            finally:
                self._delivering.release()
