"""Threads that user code has started: they may still send something, though every node waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter

__all__ = ["OtherThreads"]

PATIENCE = 10.0
"""Seconds that such a thread is waited for where all else stands still. A pool's idle threads never end."""
LOOK_AGAIN = 0.2


class OtherThreads:
    """The threads that come after this is made, but for ours. `at` calls back at a time."""

    def __init__(self, at: Callable[[float, Callable[[], None]], None]) -> None:
        self._at = at
        self._before = set(threading.enumerate())
        self._still_since = 0.0
        self._asked = 0.0

    def may_go_on(self, look_again: Callable[[], None]) -> bool:
        """Whether one of them lives that is still to be waited for; `look_again` is then called in a while."""
        now = perf_counter()
        if now - self._asked > 5 * LOOK_AGAIN:
            self._still_since = now
        self._asked = now
        new = set(threading.enumerate()) - self._before
        if now - self._still_since > PATIENCE or all(thread.name.startswith("star-") for thread in new):
            return False
        self._at(now + LOOK_AGAIN, look_again)
        return True
