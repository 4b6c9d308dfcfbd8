"""Plain arrays as memory, and back."""

from __future__ import annotations

import pickle
from typing import Any

from .kinds import is_plain_array

__all__ = ["array_over", "memory_of", "order_of", "reduced"]

# Below this a buffer of its own costs more than it saves.
_IN_BAND = 4096


def order_of(array: Any) -> str:
    """The memory order that a copy has: "F" where the array is in Fortran's order, else "C"."""
    return "F" if array.flags.fnc else "C"


def memory_of(array: Any) -> Any:
    """The bytes of a plain array in the order of a copy, as an array: its own memory where that is contiguous."""
    if not array.flags.forc:
        array = array.copy()
    return array.reshape(-1, order="A").view("u1")  # dates cannot be seen as bytes in any other way


def array_over(buffer: Any, dtype: str, shape: tuple[int, ...], order: str) -> Any:
    """The array whose memory a buffer is."""
    import numpy as np

    return np.ndarray(shape, dtype, buffer, order="F" if order == "F" else "C")


def reduced(array: Any) -> Any:
    """How an array is pickled here: as protocol 4 does, FLAME's, but with the memory of a large one out of band.

    NumPy's own protocol 5 gives read-only arrays back as such, and keeps layouts that protocol 4 makes C's.
    """
    if not array.nbytes or not is_plain_array(array):
        return array.__reduce_ex__(4)
    form = array.dtype.str, array.shape, order_of(array)
    if array.nbytes < _IN_BAND:
        return _copy_over, (array.tobytes("A"), *form)
    memory = memory_of(array)
    if not memory.flags.writeable:
        memory = memory.copy()
    return array_over, (pickle.PickleBuffer(memory), *form)


def _copy_over(buffer: bytes, dtype: str, shape: tuple[int, ...], order: str) -> Any:
    return array_over(buffer, dtype, shape, order).copy("A")
