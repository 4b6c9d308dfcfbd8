"""The C library's calls for mapping memory, which Python's own `mmap` ties to a descriptor per mapping."""

from __future__ import annotations

import functools
import mmap
import os
from typing import Any

__all__ = ["HUGE_PAGE", "MADV_COLLAPSE", "MAP_NORESERVE", "Libc", "libc", "rounded_up"]

HUGE_PAGE = 2 << 20

# What Python's `mmap` does not name, as Linux has it on every processor that NumPy is built for.
_MAP_FIXED = 0x10
MAP_NORESERVE = 0x4000
MADV_COLLAPSE = 25


class Libc:
    """The calls of the C library."""

    def __init__(self) -> None:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        size, pointer, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
        self._ctypes = ctypes
        self.munmap = library.munmap
        self.munmap.argtypes = [pointer, size]
        self.madvise = library.madvise
        self.madvise.argtypes = [pointer, size, number]
        self._mmap = library.mmap
        self._mmap.restype = pointer
        self._mmap.argtypes = [pointer, size, number, number, number, ctypes.c_ssize_t]

    def map(self, fd: int, size: int, flags: int, *, aligned: bool) -> int:
        """Map `size` bytes of `fd`, readable and writable; at a multiple of a huge page where `aligned`."""
        writable = mmap.PROT_READ | mmap.PROT_WRITE
        if not aligned:
            return self._checked_mmap(None, size, writable, flags, fd)
        # Ask for too much, put the mapping where it fits, give back what is left on both sides.
        nobody = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        start = self._checked_mmap(None, size + HUGE_PAGE, 0, nobody, -1)
        address = rounded_up(start, HUGE_PAGE)
        try:
            self._checked_mmap(address, size, writable, flags | _MAP_FIXED, fd)
        except OSError:
            self.munmap(start, size + HUGE_PAGE)
            raise
        if address > start:
            self.munmap(start, address - start)
        if address < start + HUGE_PAGE:
            self.munmap(address + size, start + HUGE_PAGE - address)
        return address

    def view(self, address: int, size: int, owner: object) -> memoryview:
        """The bytes at an address, writable; they and whatever is made of them keep `owner` alive."""
        buffer: Any = (self._ctypes.c_ubyte * size).from_address(address)
        buffer.owner = owner
        return memoryview(buffer).cast("B")

    def _checked_mmap(self, address: int | None, size: int, protection: int, flags: int, fd: int) -> int:
        found = self._mmap(address, size, protection, flags, fd, 0)
        if found is None or found == self._ctypes.c_void_p(-1).value:
            error = self._ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return int(found)


@functools.cache
def libc() -> Libc:
    """The one instance; ctypes is imported with it."""
    return Libc()


def rounded_up(number: int, multiple: int) -> int:
    """The next multiple, or `number` itself."""
    return -(-number // multiple) * multiple
