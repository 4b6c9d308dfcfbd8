"""One value for one other node: copied, or moved where only its sender had it."""

from __future__ import annotations

import sys
import sysconfig
import weakref
from typing import Any

from .flat import CONTAINERS, leaf_copy, mutable_leaves, replaced
from .kinds import ATOMIC, immutable_types, is_plain_array, nbytes_of
from .pickled import dump, load, nbytes_of_pickle, writable_copy
from .uncopyable import NEVER_A_COPY_FAILURE, uncopyable

__all__ = ["moved", "pickled_copy", "private_copy"]

# Below 3.14 and with the GIL, every holder of an object is one reference. From 3.14 on the interpreter's own stack
# may hold an object without counting, and free-threaded builds count late.
_COUNTS = (
    sys.implementation.name == "cpython"
    and sys.version_info < (3, 14)
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
)
# `moved`'s variable, and the argument of `getrefcount` itself.
_MINE = 2
# The container, the list of its leaves, the loop's variable, and the argument of `getrefcount`.
_LEAF = 4


def private_copy(value: Any) -> tuple[Any, int]:
    """A copy of `value` for one other node, and about how many bytes it takes as a message.

    Immutable values are returned as they are; arrays of plain elements, and flat containers of either, are copied
    without pickling; everything else is pickled and unpickled, which keeps aliases within the value.
    Copies are writable, and in the memory order that pickling gives: Fortran's where the original has it, else C's.
    Raises Uncopyable where the value cannot be pickled.
    """
    cls = type(value)
    if cls in ATOMIC:
        return value, nbytes_of(value)
    if cls in CONTAINERS:
        flat = mutable_leaves(value)
        if flat is not None:
            leaves, size = flat
            return replaced(value, {id(leaf): leaf_copy(leaf) for leaf in leaves}), size
    elif is_plain_array(value):
        return value.copy("A"), nbytes_of(value)
    elif cls in immutable_types():
        return value, nbytes_of(value)
    try:
        return pickled_copy(value)
    except NEVER_A_COPY_FAILURE:
        raise
    except BaseException as error:  # whatever the value's own code raises
        found = uncopyable(value, error, pickled_copy)
    raise found from found.cause


def moved(held: list[Any]) -> tuple[Any, int]:
    """Take the one value out of `held`, for another node: not copied where nobody else has it, else a `private_copy`.

    `held` is the caller's own list around what it has just got, as in `moved([method(...)])`: it is left empty, so
    that a reference kept by `self`, a closure, a container, a view, a weak reference or a variable can be told from
    the caller's. Arrays that own their memory are moved, and flat dicts, lists and tuples with such arrays.
    Returns the value and about its size in bytes. Raises Uncopyable.
    """
    value = held.pop()
    if not _COUNTS or sys.getrefcount(value) != _MINE:
        return private_copy(value)
    if is_plain_array(value):
        return (_released(value) if _is_movable(value) else value.copy("A")), nbytes_of(value)
    flat = mutable_leaves(value) if type(value) in CONTAINERS else None
    if flat is None:
        return private_copy(value)
    leaves, size = flat
    del flat
    copies: dict[int, Any] = {}
    for leaf in leaves:
        if sys.getrefcount(leaf) != _LEAF or not _is_movable(leaf):
            copies[id(leaf)] = leaf_copy(leaf)
        else:
            _released(leaf)
    return (replaced(value, copies) if copies else value), size


def pickled_copy(value: Any) -> tuple[Any, int]:
    """A copy through pickle, and its size in bytes; raises what pickling or unpickling raises."""
    data, buffers = dump(value)
    if not buffers:
        return load(data), len(data)
    return load(data, [writable_copy(buffer) for buffer in buffers]), nbytes_of_pickle(data, buffers)


def _is_movable(value: Any) -> bool:
    """Whether a value that nobody else holds can be handed over: it owns its memory, and is laid out as a copy is."""
    if type(value) is bytearray:
        return True
    flags = value.flags
    return (
        value.base is None
        and flags.owndata
        and (flags.c_contiguous or flags.f_contiguous)
        and not weakref.getweakrefcount(value)
    )


def _released(value: Any) -> Any:
    if type(value) is not bytearray and not value.flags.writeable:
        value.flags.writeable = True  # as any copy is
    return value
