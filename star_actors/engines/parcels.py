"""A value on its way to another process: pickled once, its large buffers beside the pickle."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from ..isolation import Uncopyable
from ..isolation.copies import pickled_copy
from ..isolation.libc import rounded_up
from ..isolation.pages import ALIGNMENT
from ..isolation.pickled import dump, load, nbytes_of_pickle, writable_copy
from ..isolation.uncopyable import NEVER_A_COPY_FAILURE, qualified_name, uncopyable

__all__ = ["Attachment", "Buffer", "Hold", "Parcel", "Place", "pack"]

Place = tuple[int, int]
"""Offset and size of a buffer in a parcel's memory."""
Buffer = Any
"""A buffer of a parcel: its place in the parcel's memory, or the bytes themselves."""


class Attachment(Protocol):
    """Memory that another process can map."""

    @property
    def fd(self) -> int:
        """Its descriptor here."""
        ...

    @property
    def size(self) -> int:
        """Its size in bytes."""
        ...

    @property
    def number(self) -> int:
        """What the receiver calls it when it lets go of it; 0 where it need not say."""
        ...


Hold = Callable[[int, Sequence[tuple[int, memoryview]]], Attachment | None]
"""Writes (offset, buffer) pairs into memory of a size; None where the buffers travel with the pickle."""


class Parcel:
    """A pickled value. `memory` holds those of its `buffers` that are places, `type_name` is for the error where it
    cannot be opened."""

    __slots__ = ("buffers", "data", "memory", "nbytes", "type_name")

    def __init__(self, data: bytes, buffers: Sequence[Buffer], memory: Any, nbytes: int, type_name: str) -> None:
        self.data = data
        self.buffers = buffers
        self.memory = memory
        self.nbytes = nbytes
        self.type_name = type_name

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # On the way through Dask's own pickling; a Channel pickles parcels by itself, memory included.
        if self.memory is not None:
            raise TypeError("a parcel with shared memory cannot leave this machine")
        buffers = self.buffers
        if protocol >= 5:
            buffers = [pickle.PickleBuffer(buffer) for buffer in buffers]
        return Parcel, (self.data, buffers, None, self.nbytes, self.type_name)

    def take(self, *, only: bool = False) -> Any:
        """The value, for one receiver to do with as it likes; `only` says that there is no other.

        Raises Uncopyable where it cannot be unpickled here.
        """
        try:
            return load(self.data, list(self._parts(only)))
        except NEVER_A_COPY_FAILURE:
            raise
        except BaseException as error:  # whatever the value's own code raises
            raise Uncopyable("", self.type_name, error) from error

    def _parts(self, only: bool) -> Iterator[Any]:
        whole: Any = None if self.memory is None else self.memory.map(shared=only)
        for buffer in self.buffers:
            if type(buffer) is tuple:
                offset, size = buffer
                yield whole[offset : offset + size]
            elif only and type(buffer) is not bytes and not memoryview(buffer).readonly:
                yield buffer
            else:
                yield writable_copy(memoryview(buffer))


def pack(value: Any, hold: Hold) -> Parcel:
    """Pickle a value, and copy its buffers. Raises Uncopyable, which names the part that is to blame."""
    try:
        data, buffers = dump(value)
    except NEVER_A_COPY_FAILURE:
        raise
    except BaseException as error:  # whatever the value's own code raises
        found = uncopyable(value, error, pickled_copy)
    else:
        return parcel_of(data, buffers, hold, qualified_name(type(value)))
    raise found from found.cause


def parcel_of(data: bytes, buffers: Sequence[memoryview], hold: Hold, type_name: str) -> Parcel:
    """The parcel of a pickle and the buffers out of it, which are copied."""
    size, places = 0, []
    for buffer in buffers:
        places.append((size, buffer.nbytes))
        size += rounded_up(buffer.nbytes, ALIGNMENT)
    parts = [(offset, buffer) for (offset, _), buffer in zip(places, buffers, strict=True)]
    memory = hold(size, parts) if buffers else None
    kept: Sequence[Buffer] = [writable_copy(buffer) for buffer in buffers] if memory is None else places
    return Parcel(data, kept, memory, nbytes_of_pickle(data, buffers), type_name)
