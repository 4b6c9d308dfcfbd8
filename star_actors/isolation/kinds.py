"""Which values can be shared, and which can be copied without pickling them."""

from __future__ import annotations

import datetime
import decimal
import functools
import pathlib
import sys
import uuid
from types import EllipsisType, NoneType, NotImplementedType
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ATOMIC", "are_immutable", "immutable_types", "is_plain_array", "nbytes_of"]

# Exact types only: a subclass may carry attributes. `datetime` and `time` are left out, since a tzinfo is any object.
ATOMIC: frozenset[type] = frozenset(
    {
        NoneType,
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        range,
        EllipsisType,
        NotImplementedType,
        datetime.date,
        datetime.timedelta,
        decimal.Decimal,
        uuid.UUID,
        pathlib.PosixPath,
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        pathlib.WindowsPath,
    }
)

# Booleans, numbers, dates, bytes and text: their memory is all there is to them. Structured dtypes are left out, since
# two arrays share one dtype object and its field names can be set in place.
_PLAIN_DTYPES = frozenset("biufcmMSU")
_ARRAY_HEADER = 150


def are_immutable(types: set[type]) -> bool:
    """Whether values of all these types (exactly) can be shared."""
    return types <= ATOMIC or types <= immutable_types()


def immutable_types() -> frozenset[type]:
    """ATOMIC and, where NumPy is loaded, its scalar types."""
    numpy = sys.modules.get("numpy")
    # A module that another thread is still importing has no names yet.
    return ATOMIC if numpy is None or not hasattr(numpy, "sctypeDict") else _with_numpy_scalars()


@functools.cache
def _with_numpy_scalars() -> frozenset[type]:
    import numpy as np

    scalars = {t for t in np.sctypeDict.values() if not issubclass(t, np.void | np.object_)}
    return ATOMIC | scalars


def is_plain_array(value: Any) -> TypeGuard[NDArray[np.generic[Any]]]:
    """Whether `value` is exactly an `np.ndarray` whose elements are plain memory, in this machine's byte order."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value) is not getattr(numpy, "ndarray", None):
        return False
    dtype: np.dtype[Any] = value.dtype
    return dtype.kind in _PLAIN_DTYPES and dtype.isnative and dtype.metadata is None


def nbytes_of(value: Any) -> int:
    """About how many bytes `value` takes when pickled, without pickling it; meant for atomic values and arrays."""
    cls = type(value)
    if cls is float:
        return 21
    if cls is int:
        return 12 + int.bit_length(value) // 8
    if cls is str or cls is bytes:
        return 18 + len(value)
    if is_plain_array(value):
        return _ARRAY_HEADER + int(value.nbytes)
    return sys.getsizeof(value)
