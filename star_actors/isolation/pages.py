"""Memory that is written once and mapped by many: each mapping is private, and grows only by the pages written to.

Python 3.11's own `mmap` keeps a file descriptor per mapping, so the system's calls are used through ctypes.
"""

from __future__ import annotations

import functools
import itertools
import mmap
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .libc import HUGE_PAGE, MADV_COLLAPSE, MAP_NORESERVE, libc, rounded_up
from .pickled import writable_copy

__all__ = ["ALIGNMENT", "LARGE", "Held", "Loan", "Memory", "Pages", "hold", "mapping"]

# From here on a mapping that is read costs a fifth of a copy, and one that is written to throughout about the same.
# Below it the C library's heap often has the memory at hand, and copies are faster.
LARGE = 1 << 20

ALIGNMENT = 64
_IDLE = 4
_WAITING = 12
# Linux allows a process 65,530, and one that has used them up cannot even copy any more.
_MAPPINGS = 30_000


class Pages:
    """The pages that a run's broadcasts write to, used again once nobody maps them any more; a context manager.

    Fresh pages cost ten times what writing to them costs. At most a few descriptors are kept open for it, and `close`
    gives up all of them; arrays that are still alive then stay valid.
    """

    def __init__(self) -> None:
        self._idle: list[Memory] = []
        self._waiting: dict[int, Memory] = {}
        self._closed = False

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything that is kept for another use."""
        self._closed = True
        for memory in list(self._waiting.values()):
            memory.close_descriptor()
        while self._idle:
            self._idle.pop().close()

    def obtain(self, size: int) -> Memory:
        """Memory of `size` bytes that nobody maps; raises OSError where there is none."""
        for memory in list(self._idle):
            if memory.size == size and memory.forks == _forks():
                try:
                    self._idle.remove(memory)
                except ValueError:  # another thread was faster
                    continue
                return memory
        return Memory(size)

    def may_wait(self, memory: Memory) -> bool:
        """Whether `memory` keeps its descriptor until its last mapping is gone, to be used again."""
        if self._closed or len(self._waiting) >= _WAITING:
            return False
        self._waiting[id(memory)] = memory
        return True

    def give_back(self, memory: Memory) -> None:
        """Take memory that nobody maps any more. Called by finalizers, so on any thread and without a lock."""
        waited = self._waiting.pop(id(memory), None) is not None
        if waited and not self._closed and memory.forks == _forks():
            self._idle.append(memory)
            if len(self._idle) > _IDLE:
                self._idle.pop(0).close()
        else:
            memory.close()


class Held:
    """Buffers held for any number of receivers; `parts` gives each receiver writable ones of its own."""

    def parts(self) -> list[Any]:
        """One buffer for each that was given, in order."""
        raise NotImplementedError

    def lend(self) -> Loan | None:
        """The memory of the parts itself, for other processes to map; None where there is none to lend."""
        return None

    def close(self) -> None:
        """No more `parts` will be asked for."""


class Loan(NamedTuple):
    """Memory that other processes may map: a descriptor of the borrower's own, and (offset, size) of each part. It is
    not written again as long as `keep` lives."""

    fd: int
    size: int
    places: list[tuple[int, int]]
    keep: object


def hold(buffers: Sequence[memoryview], pages: Pages | None) -> Held:
    """Copy `buffers` once, for any number of receivers."""
    if sum(b.nbytes for b in buffers) >= LARGE and sys.platform == "linux":
        try:
            return _Mapped(buffers, pages)
        except OSError:  # no memfd in this sandbox, no descriptor left: copies do the same, with more memory
            pass
    return _Copied(buffers)


class _Copied(Held):
    def __init__(self, buffers: Sequence[memoryview]) -> None:
        self._buffers = [memoryview(writable_copy(b)) for b in buffers]

    def parts(self) -> list[Any]:
        return [writable_copy(b) for b in self._buffers]


class _Mapped(Held):
    def __init__(self, buffers: Sequence[memoryview], pages: Pages | None) -> None:
        self._segment: _Segment | None = None
        self._sizes = [b.nbytes for b in buffers]
        ends = itertools.accumulate(rounded_up(size, ALIGNMENT) for size in self._sizes)
        self._offsets = [0, *ends]
        self._lock = threading.Lock()
        size = rounded_up(self._offsets.pop(), mmap.PAGESIZE)
        memory = Memory(size) if pages is None else pages.obtain(size)
        self._segment = _Segment(memory, pages)
        memory.write(zip(self._offsets, buffers, strict=True))

    def parts(self) -> list[Any]:
        with self._lock:  # a descriptor that is closed in between could be another file's by then
            segment = self._segment
            if segment is None:
                raise RuntimeError("no more copies can be taken: the broadcast is closed")
            whole = segment.map()
            if whole is None:
                return [segment.memory.read(o, n) for o, n in zip(self._offsets, self._sizes, strict=True)]
        return [whole[o : o + n] for o, n in zip(self._offsets, self._sizes, strict=True)]

    def lend(self) -> Loan | None:
        with self._lock:
            segment = self._segment
            if segment is None:
                raise RuntimeError("nothing can be lent any more: the broadcast is closed")
            fd = segment.memory.duplicate()
        return Loan(fd, segment.memory.size, list(zip(self._offsets, self._sizes, strict=True)), segment)

    def close(self) -> None:
        with self._lock:
            segment, self._segment = self._segment, None
        if segment is not None:
            segment.shut()

    __del__ = close


class _Segment:
    """One use of some memory: lives as long as the broadcast or any of its mappings does."""

    def __init__(self, memory: Memory, pages: Pages | None) -> None:
        self.memory = memory
        self._pages = pages

    def map(self) -> memoryview | None:
        """A private mapping of the whole, which ends with the last array or view over it; None at a limit."""
        return mapping(self.memory.map_private, self.memory.size, self)

    def shut(self) -> None:
        if self._pages is None or not self._pages.may_wait(self.memory):
            self.memory.close_descriptor()

    def __del__(self) -> None:
        if self._pages is None:
            self.memory.close()
        else:
            self._pages.give_back(self.memory)


def mapping(map: Callable[[], int], size: int, keep: object) -> memoryview | None:
    """The memory that `map` gives the address of, until the last array or view over it is gone; None at a limit of
    the system's. `keep` lives as long."""
    if len(_mappings()) >= _MAPPINGS:
        return None
    try:
        address = map()
    except OSError:
        return None
    return libc().view(address, size, _Mapping(address, size, keep))


class _Mapping:
    __slots__ = ("_address", "_keep", "_mappings", "_size", "_unmap")

    def __init__(self, address: int, size: int, keep: object) -> None:
        self._address = address
        self._size = size
        self._keep = keep
        # Bound here, since module names may be gone when the last array dies.
        self._unmap = libc().munmap
        self._mappings = _mappings()
        self._mappings.add(address)

    def __del__(self) -> None:
        self._mappings.discard(self._address)
        self._unmap(self._address, self._size)


@functools.cache
def _mappings() -> set[int]:
    """The addresses of all mappings that are alive."""
    return set()


class Memory:
    """An unnamed file in memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.forks = _forks()
        self.huge = False
        self._shared = 0
        self._close = os.close
        self._unmap = libc().munmap
        # A list, since taking out of it is one step: no two threads close the same descriptor.
        self._descriptor: list[int] = []
        self._descriptor.append(os.memfd_create("star_actors"))
        os.ftruncate(self.fd, size)
        self._written = False

    @property
    def fd(self) -> int:
        """Its descriptor; -1 once it is closed."""
        return self._descriptor[0] if self._descriptor else -1

    def write(self, parts: Any) -> None:
        """Write (offset, buffer) pairs. Only while nobody maps the memory: private mappings see it until they write."""
        if not self._written:
            if self.size >= HUGE_PAGE:
                self._make_huge()
            # Through the descriptor, where a lack of memory is an OSError and not a SIGBUS.
            for offset, buffer in parts:
                done = 0
                while done < buffer.nbytes:
                    done += os.pwrite(self.fd, buffer[done:], offset + done)
            self._written = True
        else:
            shared = libc().view(self._map_shared(), self.size, self)
            for offset, buffer in parts:
                shared[offset : offset + buffer.nbytes] = buffer

    def read(self, offset: int, size: int) -> bytearray:
        """A copy of a part."""
        copy = bytearray(size)
        done = 0
        while done < size:
            done += os.preadv(self.fd, [memoryview(copy)[done:]], offset + done)
        return copy

    def map_private(self) -> int:
        """The address of a new private mapping."""
        return libc().map(self.fd, self.size, mmap.MAP_PRIVATE | MAP_NORESERVE, aligned=self.huge)

    def _make_huge(self) -> None:
        """Have huge pages, before anything is written: every mapping then costs 1/512 of the faults and tables, and
        writing half as much. Old kernels refuse; then the pages stay small."""
        for offset in range(0, self.size, HUGE_PAGE):
            os.pwrite(self.fd, b"\0", offset)  # where there is no page at all, the kernel makes no huge one
        self.huge = libc().madvise(self._map_shared(), self.size, MADV_COLLAPSE) == 0

    def _map_shared(self) -> int:
        """The address of the file itself."""
        if not self._shared:
            self._shared = libc().map(self.fd, self.size, mmap.MAP_SHARED, aligned=self.size >= HUGE_PAGE)
        return self._shared

    def duplicate(self) -> int:
        """Another descriptor of the same memory."""
        return os.dup(self.fd)

    def close_descriptor(self) -> None:
        """No new mapping can be made; the ones there are stay."""
        try:
            fd = self._descriptor.pop()
        except IndexError:
            return
        self._close(fd)

    def close(self) -> None:
        self.close_descriptor()
        shared, self._shared = self._shared, 0
        if shared:
            self._unmap(shared, self.size)

    __del__ = close


class _Forks:
    """Counts forks: the child maps the same memory, and this process cannot know for how long."""

    count = 0

    def bump(self) -> None:
        self.count += 1


@functools.cache
def _fork_counter() -> _Forks:
    forks = _Forks()
    os.register_at_fork(before=forks.bump, after_in_parent=forks.bump, after_in_child=forks.bump)
    return forks


def _forks() -> int:
    return _fork_counter().count
