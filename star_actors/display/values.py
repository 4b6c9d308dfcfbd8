"""The numbers inside an aggregate, whatever its shape: their names, their norm, how far they moved."""

from __future__ import annotations

import dataclasses
import math
import sys
from array import array
from collections.abc import Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from itertools import islice, product
from typing import Any

import msgspec

from star_actors.release.withheld import Withheld
from star_actors.report import Summary

__all__ = ["Numbers"]

_MOST_LEAVES = 100_000
_DEEPEST = 20


class Numbers:
    """The numbers of one aggregate, in order: of dicts, lists, tuples, arrays, tables and records, nested.

    Booleans, text and other objects are no numbers. `size` counts the numbers; `truncated` says that there were more
    containers than are looked at.
    """

    __slots__ = ("_leaves", "_paths", "size", "truncated")

    def __init__(self, value: Any) -> None:
        found = list(islice(_leaves("", value, 0), _MOST_LEAVES + 1))
        self.truncated = len(found) > _MOST_LEAVES
        del found[_MOST_LEAVES:]
        self._paths = [path for path, _ in found]
        self._leaves = [leaf for _, leaf in found]
        self.size: int = sum(1 if type(leaf) is float else _size(leaf) for leaf in self._leaves)

    @property
    def single(self) -> float | None:
        """The number itself, where the aggregate is one."""
        if self._paths == [""] and type(self._leaves[0]) is float:
            return self._leaves[0]
        return None

    def norm(self) -> float:
        """The Euclidean norm over all numbers; of a single number, its absolute value."""
        return math.hypot(*[abs(leaf) if type(leaf) is float else _norm(leaf) for leaf in self._leaves])

    def distance(self, other: Numbers) -> float | None:
        """The Euclidean norm of the difference; None where the two have not the same structure."""
        if self._paths != other._paths:
            return None
        parts = []
        for mine, theirs in zip(self._leaves, other._leaves, strict=True):
            if type(mine) is float and type(theirs) is float:
                # Two infinities are the same place, not an unknown distance apart.
                parts.append(0.0 if mine == theirs else abs(mine - theirs))
                continue
            if _shape(mine) != _shape(theirs):
                return None
            parts.append(_distance(mine, theirs))
        return math.hypot(*parts)

    def finite(self) -> bool:
        """Whether no number is NaN or infinite."""
        return all(math.isfinite(leaf) if type(leaf) is float else _finite(leaf) for leaf in self._leaves)

    def named(self, limit: int) -> list[tuple[str, float]]:
        """The first `limit` numbers with their names, such as `model.weights[0, 2]`; "" names a plain number."""
        return list(islice(self._each(), limit))

    def _each(self) -> Iterator[tuple[str, float]]:
        for path, leaf in zip(self._paths, self._leaves, strict=True):
            if type(leaf) is float:
                yield path, leaf
            else:
                for index in product(*map(range, _shape(leaf))):
                    at: Any = index[0] if len(index) == 1 else index
                    yield f"{path}[{', '.join(map(str, index))}]" if index else path, float(leaf[at])


def _leaves(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Every number as a float, every row of numbers as an array, with its path."""
    if isinstance(value, Withheld | Summary | str | bytes | bytearray | bool) or value is None or depth > _DEEPEST:
        return
    plain = _plain(value)
    if plain is not None:
        yield path, plain
    elif isinstance(value, complex):
        yield f"{path}.real", value.real
        yield f"{path}.imag", value.imag
    elif isinstance(value, list | tuple):
        yield from _row(path, value, depth)
    elif isinstance(value, dict):
        for key, part in dict.items(value):
            yield from _leaves(path + _key(key, bool(path)), part, depth + 1)
    elif _is_array(value):
        yield from _of_array(path, value, depth)
    elif type(value).__module__.partition(".")[0] == "pandas":
        yield from _of_table(path, value, depth)
    else:
        for name, part in _fields(value):
            yield from _leaves(path + _key(name, bool(path)), part, depth + 1)


def _row(path: str, value: list[Any] | tuple[Any, ...], depth: int) -> Iterator[tuple[str, Any]]:
    items = list(list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value))
    names = getattr(value, "_fields", None)
    if isinstance(names, tuple) and len(names) == len(items):
        for name, part in zip(names, items, strict=True):
            yield from _leaves(path + _key(name, bool(path)), part, depth + 1)
    elif items and set(map(type, items)) <= {int, float}:
        try:
            yield path, array("d", items)
        except OverflowError:
            yield path, array("d", [_plain(item) or 0.0 for item in items])
    else:
        for i, part in enumerate(items):
            yield from _leaves(f"{path}[{i}]", part, depth + 1)


def _of_array(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    kind = value.dtype.kind
    if kind in "iuf":
        yield (path, float(value)) if value.ndim == 0 else (path, value)
    elif kind == "c":
        yield from _of_array(f"{path}.real", value.real, depth)
        yield from _of_array(f"{path}.imag", value.imag, depth)
    elif kind == "O":
        yield from _leaves(path, value.tolist(), depth + 1)
    elif kind == "V" and value.dtype.names:
        for name in value.dtype.names:
            yield from _of_array(path + _key(name, bool(path)), value[name], depth)


def _of_table(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if type(value).__name__ == "DataFrame":
        for position, name in enumerate(value.columns):
            yield from _of_table(path + _key(name, bool(path)), value.iloc[:, position], depth)
    elif type(value).__name__ in ("Series", "Index"):
        yield from _of_array(path, value.to_numpy(), depth)


def _fields(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, msgspec.Struct):
        return [(name, getattr(value, name, None)) for name in value.__struct_fields__]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    return ()


def _plain(value: Any) -> float | None:
    """A single number as a float. Subclasses are read as their base: an own `__float__` is somebody's code."""
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        try:
            return int.__float__(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if type(value) is Decimal or type(value) is Fraction:
        try:
            return float(value)
        except ValueError:  # a signalling NaN
            return math.nan
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.integer | numpy.floating):
        return float(value)
    return None


def _key(key: Any, nested: bool) -> str:
    if isinstance(key, str) and str.isidentifier(key):
        return f".{key}" if nested else str(key)
    if isinstance(key, str | int | float):
        text = repr(key)
        return f"[{text if len(text) <= 40 else text[:37] + '...'}]"
    return f"[{type(key).__name__}]"


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _size(leaf: Any) -> int:
    return len(leaf) if type(leaf) is array else int(leaf.size)


def _shape(leaf: Any) -> tuple[int, ...]:
    if type(leaf) is float:
        return ()
    return (len(leaf),) if type(leaf) is array else tuple(leaf.shape)


def _finite(leaf: Any) -> bool:
    if type(leaf) is array:
        return all(map(math.isfinite, leaf))
    import numpy as np

    return bool(np.isfinite(leaf).all())


def _norm(leaf: Any) -> float:
    if type(leaf) is array:
        return math.hypot(*leaf)
    return _euclidean(leaf)


def _distance(mine: Any, theirs: Any) -> float:
    if type(mine) is array and type(theirs) is array:
        return 0.0 if mine == theirs else math.dist(mine, theirs)
    import numpy as np

    with np.errstate(all="ignore"):
        # Unsigned integers would wrap around, and two infinities give NaN.
        mine, theirs = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
        difference = mine - theirs
    if np.isnan(difference).any():
        difference[mine == theirs] = 0.0
    return _euclidean(difference)


def _euclidean(values: Any) -> float:
    import numpy as np

    with np.errstate(all="ignore"):
        flat = np.asarray(values, np.float64).ravel()
        norm = float(np.linalg.norm(flat))
        if norm == 0.0 or math.isinf(norm):
            # Squares under- or overflow long before the numbers do.
            largest = float(np.abs(flat).max(initial=0.0))
            if largest and math.isfinite(largest):
                norm = largest * float(np.linalg.norm(flat / largest))
    return norm
