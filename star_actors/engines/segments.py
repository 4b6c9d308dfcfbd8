"""Memory that processes of one machine share: one side writes it, hands the other its descriptor, and may write it
again once the other has let go of it."""

from __future__ import annotations

import itertools
import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence

from ..isolation.libc import MAP_NORESERVE, libc, rounded_up
from ..isolation.pages import mapping

__all__ = ["Arrived", "Lent", "Segment", "Segments"]

SHARED_FROM = 1 << 18
"""Bytes from which buffers are shared; fewer are quicker through the socket."""
_IDLE = 8
_POOLED = 64
"""How many segments at once keep a descriptor here to be used again."""


class Segment:
    """One piece of memory, written through its descriptor: a lack of memory is an OSError then, and no SIGBUS."""

    __slots__ = ("fd", "number", "size")

    def __init__(self, number: int, size: int) -> None:
        self.fd = -1
        self.number = number
        self.size = size
        self.fd = os.memfd_create("star_actors")
        os.ftruncate(self.fd, size)

    def write(self, parts: Sequence[tuple[int, memoryview]]) -> None:
        """Write (offset, buffer) pairs."""
        for offset, buffer in parts:
            done = 0
            while done < buffer.nbytes:
                done += os.pwrite(self.fd, buffer[done:], offset + done)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


class Lent:
    """Memory of somebody else's; the descriptor is closed with this object."""

    __slots__ = ("fd", "number", "size")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.number = 0
        self.size = size

    def __del__(self) -> None:
        os.close(self.fd)


class Segments:
    """The segments that one side writes. From any thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._idle: list[Segment] = []
        self._away: dict[int, Segment] = {}
        self._shares = sys.platform == "linux"

    def hold(self, size: int, parts: Sequence[tuple[int, memoryview]]) -> Segment | None:
        """Write what goes to the other end of the channel, which says when it lets go of it."""
        if size < SHARED_FROM or not self._shares:
            return None
        size = rounded_up(size, mmap.PAGESIZE)
        with self._lock:
            segment = next((idle for idle in self._idle if idle.size == size), None)
            if segment is not None:
                self._idle.remove(segment)
            pooled = segment is not None or len(self._away) < _POOLED
        if segment is None:
            segment = self._fresh(next(self._numbers) if pooled else 0, size)
            if segment is None:
                return None
        segment.write(parts)
        if segment.number:
            with self._lock:
                self._away[segment.number] = segment
        return segment

    def hold_once(self, size: int, parts: Sequence[tuple[int, memoryview]]) -> Segment | None:
        """Write what may travel on to anywhere, and never comes back."""
        if size < SHARED_FROM or not self._shares:
            return None
        segment = self._fresh(0, rounded_up(size, mmap.PAGESIZE))
        if segment is not None:
            segment.write(parts)
        return segment

    def release(self, numbers: Iterable[int]) -> None:
        """The other side has let go of these."""
        with self._lock:
            for number in numbers:
                self._idle.append(self._away.pop(number))
                if len(self._idle) > _IDLE:
                    self._idle.pop(0).close()

    def close(self) -> None:
        """Close every descriptor; what others have mapped stays."""
        with self._lock:
            segments = [*self._idle, *self._away.values()]
            self._idle.clear()
            self._away.clear()
        for segment in segments:
            segment.close()

    def _fresh(self, number: int, size: int) -> Segment | None:
        try:
            return Segment(number, size)
        except OSError:  # no memfd in this sandbox, or no descriptor left: then the socket carries it
            return None


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
        view = mapping(lambda: libc().map(self.fd, self.size, flags, aligned=False), self.size, self._lease)
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
