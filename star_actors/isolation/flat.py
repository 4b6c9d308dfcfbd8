"""Flat containers: what can be copied element by element instead of pickled."""

from __future__ import annotations

import sys
from types import NoneType
from typing import Any

from .kinds import are_immutable, immutable_types, is_plain_array, nbytes_of

__all__ = ["CONTAINERS", "leaf_copy", "mutable_leaves", "replaced"]

CONTAINERS = frozenset({dict, list, tuple})

_NUMBERS = frozenset({float, int, bool, NoneType})


def mutable_leaves(container: Any) -> tuple[list[Any], int] | None:
    """The arrays and bytearrays in a flat dict, list or tuple, and its size in bytes; None where it is not flat.

    Flat is a container, exactly of one of these types, whose elements and keys are immutable, plain arrays or
    bytearrays, none of these twice: then copying element by element gives what pickling gives, in a fraction of the
    time. The size is an estimate of the pickle's.
    """
    elements = container
    size = 16
    if type(container) is dict:
        if not are_immutable(set(map(type, container))):
            return None
        elements = container.values()
        size += 12 * len(container)
    types = set(map(type, elements))
    if types <= _NUMBERS:
        return [], size + 9 * len(elements)
    leaves: list[Any] = []
    types -= immutable_types()
    if types:
        if not types <= {bytearray, getattr(sys.modules.get("numpy"), "ndarray", None)}:
            return None
        leaves = [element for element in elements if type(element) in types]
        if not all(type(leaf) is bytearray or is_plain_array(leaf) for leaf in leaves):
            return None
        if len(set(map(id, leaves))) < len(leaves):
            return None
    return leaves, size + sum(map(nbytes_of, elements))


def leaf_copy(leaf: Any) -> Any:
    """A copy of a plain array or bytearray."""
    return leaf[:] if type(leaf) is bytearray else leaf.copy("A")


def replaced(container: Any, replacement: dict[int, Any]) -> Any:
    """A copy of a flat container with its leaves replaced, by id; an immutable one is returned as it is."""
    if type(container) is dict:
        if not replacement:
            return container.copy()
        return {key: replacement.get(id(element), element) for key, element in container.items()}
    if not replacement:
        return container[:]
    return type(container)([replacement.get(id(element), element) for element in container])
