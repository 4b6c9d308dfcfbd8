"""Memory that processes of one machine share: one side writes it, hands the other its descriptor, and may write it
again once the other has let go of it."""

from __future__ import annotations

import itertools
import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..isolation.libc import HUGE_PAGE, MAP_NORESERVE, libc, rounded_up
from ..isolation.pages import Loan, Memory, mapping

__all__ = ["Arrived", "Lent", "Segment", "Segments", "hold_once"]

SHARED_FROM = 1 << 18
"""Bytes from which buffers are shared; fewer are quicker through the socket."""
_IDLE = 8
_POOLED = 64
"""How many segments at once keep a descriptor here to be used again."""

_numbers = itertools.count(1)


class Segment:
    """Memory of this side's. With a `number` the other side says when it has let go of it."""

    __slots__ = ("memory", "number")

    def __init__(self, size: int, *, comes_back: bool) -> None:
        self.memory = Memory(size)
        self.number = next(_numbers) if comes_back else 0

    @property
    def fd(self) -> int:
        return self.memory.fd

    @property
    def size(self) -> int:
        return self.memory.size


class Lent:
    """Memory of a broadcast, which is not written again before every host has let go of it."""

    __slots__ = ("fd", "keep", "number", "size")

    def __init__(self, loan: Loan) -> None:
        self.fd = loan.fd
        self.size = loan.size
        self.keep = loan.keep
        self.number = next(_numbers)

    def __del__(self) -> None:
        os.close(self.fd)


class Segments:
    """What one side of a channel has written, and the other side maps. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Segment] = []
        self._away: dict[int, Any] = {}

    def hold(self, size: int, parts: Sequence[tuple[int, memoryview]]) -> Segment | None:
        """Write what goes to the other end of the channel, in memory that has come back from there if there is any."""
        if size < SHARED_FROM:
            return None
        size = rounded_up(size, mmap.PAGESIZE)
        with self._lock:
            segment = next((idle for idle in self._idle if idle.size == size), None)
            if segment is not None:
                self._idle.remove(segment)
            comes_back = len(self._away) < _POOLED
        if segment is None:
            return _written(size, parts, comes_back=comes_back)
        segment.memory.write(parts)
        return segment

    def sent(self, memory: Any) -> None:
        """This went to the other end: keep what it will let go of."""
        if memory.number:
            self._away[memory.number] = memory

    def release(self, numbers: Iterable[int]) -> None:
        """The other end has let go of these."""
        with self._lock:
            for number in numbers:
                memory = self._away.pop(number)
                if type(memory) is Segment:
                    self._idle.append(memory)
                    del self._idle[:-_IDLE]

    def close(self) -> None:
        """Let go of everything; what others have mapped stays."""
        with self._lock:
            self._idle.clear()
            self._away.clear()


def hold_once(size: int, parts: Sequence[tuple[int, memoryview]]) -> Segment | None:
    """Write what may go to several others and travel on from there, and never comes back."""
    return _written(rounded_up(size, mmap.PAGESIZE), parts, comes_back=False) if size >= SHARED_FROM else None


def _written(size: int, parts: Sequence[tuple[int, memoryview]], *, comes_back: bool) -> Segment | None:
    if sys.platform != "linux":
        return None
    try:
        segment = Segment(size, comes_back=comes_back)
        segment.memory.write(parts)
    except OSError:  # no memfd in this sandbox, no descriptor or memory left: the socket carries it
        return None
    return segment


class Arrived:
    """Memory that has come from the other end. Its descriptor is closed once the only receiver has mapped it, or with
    this object; `let_go` hears of its number once nothing here maps it any more, on whatever thread that is."""

    def __init__(self, fd: int, let_go: Callable[[int], object]) -> None:
        self.fd = fd
        self.size = 0
        self.number = 0
        self._let_go = let_go
        self._lease: _Lease | None = None
        self._close = os.close

    def sized(self, size: int, number: int) -> Arrived:
        """The same, once it is known what it is."""
        self.size = size
        self.number = number
        self._lease = _Lease(number, self._let_go) if number else None
        return self

    def map(self, *, shared: bool) -> memoryview:
        """All of it: the memory itself for the only receiver, else a private view whose pages are copied when they are
        written to."""
        flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE | MAP_NORESERVE
        # At a multiple of a huge page, where the memory may have such pages.
        aligned = self.size >= HUGE_PAGE
        view = mapping(lambda: libc().map(self.fd, self.size, flags, aligned=aligned), self.size, self._lease)
        if view is None:  # at a limit of the system's
            view = self._copy()
        if shared:
            self._shut()
        return view

    def _copy(self) -> memoryview:
        view = memoryview(bytearray(self.size))
        done = 0
        while done < self.size:
            done += os.preadv(self.fd, [view[done:]], done)
        return view

    def _shut(self) -> None:
        self._lease = None
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._close(fd)

    __del__ = _shut


class _Lease:
    """Lives as long as anything here maps the memory."""

    __slots__ = ("_let_go", "_number")

    def __init__(self, number: int, let_go: Callable[[int], object]) -> None:
        self._number = number
        self._let_go = let_go

    def __del__(self) -> None:
        self._let_go(self._number)
