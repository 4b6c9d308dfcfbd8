"""Values taken apart, and compared, without running any code of their classes."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Collection, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

__all__ = [
    "Path",
    "Pieces",
    "fingerprint",
    "is_array",
    "is_column",
    "is_number",
    "is_table",
    "named",
    "nan_in",
    "parts",
]

Path = tuple[tuple[str, Any, int], ...]
"""Steps from a value to a part: the kind of step ("key", "item" or "attribute"), the key or name, its position."""

Pieces = list[tuple[Path, Any]]
"""A value and its parts, each with the path to it."""

_MOST = 2_000
_DEEPEST = 8
_LARGE = 1 << 20
_START = 10_000
_WHOLE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)
_LEAVES = (str, bytes, bytearray, int, float, complex, *_WHOLE)


def is_array(value: object) -> bool:
    """Whether `value` is a NumPy array."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, getattr(numpy, "ndarray", ()))


def is_number(value: object) -> bool:
    """Whether `value` is a real number of NumPy's."""
    numpy = sys.modules.get("numpy")
    if numpy is None or isinstance(value, numpy.timedelta64):  # which NumPy counts among its integers
        return False
    return isinstance(value, (numpy.integer, numpy.floating))


def nan_in(pieces: Pieces) -> Path | None:
    """Where NaN stands in a value; None where there is none. Of a large array only the start is looked at."""
    for path, part in pieces:
        if type(part) is float or is_number(part):
            if part != part:
                return path
        elif is_array(part) and part.dtype.kind in "fc":
            start = part.reshape(-1)[:_START] if part.flags.c_contiguous else part[:100]
            if bool((start != start).any()):
                return path
    return None


def is_table(value: object) -> bool:
    """Whether `value` is a DataFrame of pandas or polars."""
    return _is_of_a_table_library(value, "DataFrame")


def is_column(value: object) -> bool:
    """Whether `value` is a Series of pandas or polars."""
    return _is_of_a_table_library(value, "Series")


def parts(value: Any) -> Iterator[tuple[Path, Any]]:
    """`value` and what it is made of, the outer parts first: the elements of containers, the attributes of objects and
    the columns of tables. At most 2,000 parts and 8 levels, so that a large value costs no more than a small one."""
    left = _MOST
    queue: deque[tuple[Path, Any]] = deque([((), value)])
    seen = set()
    while queue and left:
        path, part = queue.popleft()
        left -= 1
        yield path, part
        if len(path) < _DEEPEST and id(part) not in seen:
            seen.add(id(part))
            for step, inner in _inner(part):
                if len(queue) >= left:
                    break
                queue.append(((*path, step), inner))


def named(root: str, path: Path, hidden: Collection[str] = ()) -> str:
    """A path as the user would write it. Keys that are no strings, long ones, and those in `hidden`, are shown by their
    position: what they are may be what must not be told."""
    text = root
    for kind, key, position in path:
        if kind == "attribute":
            text += f".{key}"
        elif kind == "item":
            text += f"[{position}]"
        elif type(key) is str and len(key) <= 40 and key not in hidden:
            text += f'["{key}"]'
        else:
            text += f"[<key {position}>]"
    return text


def fingerprint(value: Any, depth: int = 6) -> Any:
    """Something that is equal for equal values of plain types, arrays and objects of such; other values are told apart
    by identity. Large containers and arrays are represented by their size and a few elements."""
    cls = type(value)
    if cls in (int, float, complex, str, bytes, bool) or value is None:
        return (cls, repr(value)) if cls in (float, complex) else (cls, value)
    if depth == 0 or isinstance(value, _WHOLE):
        return id(value)
    if is_array(value):
        if value.dtype.hasobject:
            return cls, value.shape, tuple(fingerprint(element, depth - 1) for element in value.ravel()[:100].tolist())
        small = value if value.nbytes <= _LARGE else value.ravel()[:: max(1, value.size // 1000)]
        return cls, value.dtype.str, value.shape, small.tobytes()
    if isinstance(value, dict):
        inner: Any = [(fingerprint(k, depth - 1), fingerprint(v, depth - 1)) for k, v in _first(dict.items(value))]
        return cls, dict.__len__(value), tuple(inner)
    if isinstance(value, set | frozenset):
        size = set.__len__(value) if isinstance(value, set) else frozenset.__len__(value)
        elements = value.__iter__() if cls in (set, frozenset) else iter(())
        return cls, size, frozenset(fingerprint(element, depth - 1) for element in _first(elements))
    if isinstance(value, bytearray):
        return cls, bytes(value)
    if isinstance(value, list | tuple | deque):
        base = next(base for base in (list, tuple, deque) if isinstance(value, base))
        size = base.__len__(value)  # type: ignore[arg-type]
        elements = base.__iter__(value)  # type: ignore[arg-type]
        return cls, size, tuple(fingerprint(element, depth - 1) for element in _first(elements))
    if is_table(value) or is_column(value):
        return id(value), value.shape
    attributes = _attributes(value)
    if attributes is not None and not cls.__module__.startswith(("threading", "logging", "_")):
        return id(value), tuple((name, fingerprint(inner, depth - 1)) for name, inner in _first(attributes.items()))
    return id(value)


def _inner(value: Any) -> Iterator[tuple[tuple[str, Any, int], Any]]:
    if value is None or isinstance(value, _LEAVES) or is_array(value):
        return
    if is_table(value):
        for position, column in enumerate(list(value.columns)):
            if list(value.columns).count(column) == 1:
                yield ("key", column, position), value[column].to_numpy()
    elif is_column(value):
        yield ("attribute", "values", 0), value.to_numpy()
        if hasattr(value, "index"):
            yield ("attribute", "index", 1), value.index.to_numpy()
    elif isinstance(value, dict):
        for position, (key, element) in enumerate(dict.items(value)):
            yield ("key", key, position), element
    elif isinstance(value, list | tuple):
        base = list if isinstance(value, list) else tuple
        for position, element in enumerate(base.__iter__(value)):  # type: ignore[arg-type]
            yield ("item", position, position), element
    elif type(value) in (set, frozenset):
        for position, element in enumerate(value):
            yield ("item", position, position), element
    else:
        for position, (name, element) in enumerate((_attributes(value) or {}).items()):
            yield ("attribute", name, position), element


def _is_of_a_table_library(value: object, name: str) -> bool:
    modules = (sys.modules.get("pandas"), sys.modules.get("polars"))
    return any(isinstance(value, getattr(module, name, ())) for module in modules if module is not None)


def _attributes(value: Any) -> dict[str, Any] | None:
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return dict(attributes) if type(attributes) is dict else None


def _first(elements: Any) -> Any:
    # A list of them first: another thread may change the container meanwhile.
    return list(elements)[:500]
