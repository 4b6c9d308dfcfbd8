"""One value, pickled once: its bytes, and its large buffers beside them."""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections.abc import Sequence
from typing import Any

from .arrays import reduced

__all__ = ["dump", "load", "nbytes_of_pickle", "writable_copy"]

_THROUGH_NUMPY = 1 << 20


def dump(value: Any) -> tuple[bytes, Sequence[memoryview]]:
    """`value` as a pickle and the buffers out of it, which still are the memory of the value itself.

    Raises what pickling raises.
    """
    buffers: list[pickle.PickleBuffer] = []
    data = _dumps(value, buffers)
    if not buffers:
        return data, ()
    views = [buffer.raw() for buffer in buffers]
    if any(view.readonly for view in views):
        # Of other libraries than NumPy: protocol 5 would give them back read-only.
        return pickle.dumps(value, protocol=4), ()
    return data, views


def _dumps(value: Any, buffers: list[pickle.PickleBuffer]) -> bytes:
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "ndarray"):
        return pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, protocol=5, buffer_callback=buffers.append)
    pickler.dispatch_table = {**copyreg.dispatch_table, numpy.ndarray: reduced}
    pickler.dump(value)
    return stream.getvalue()


def nbytes_of_pickle(data: bytes, buffers: Sequence[memoryview]) -> int:
    """The size of what `dump` made."""
    return len(data) + sum([buffer.nbytes for buffer in buffers])


def load(data: bytes, buffers: Sequence[Any] = ()) -> Any:
    """The value that `dump` made `data` of, over `buffers` that are this value's own from now on."""
    return pickle.loads(data, buffers=buffers) if buffers else pickle.loads(data)


def writable_copy(buffer: memoryview) -> Any:
    """A writable copy of a buffer of bytes."""
    numpy = sys.modules.get("numpy")
    if numpy is None or buffer.nbytes < _THROUGH_NUMPY:
        return bytearray(buffer)
    # NumPy asks for huge pages, which makes a large copy four times as fast as a bytearray.
    return numpy.frombuffer(buffer, numpy.uint8).copy()
