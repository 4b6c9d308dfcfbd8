"""What cannot be copied, and which part of it is to blame."""

from __future__ import annotations

import dataclasses
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

from star_actors.errors import NodeStopped, _picklable

__all__ = ["NEVER_A_COPY_FAILURE", "Uncopyable", "qualified_name", "uncopyable"]

# Raised into user code from outside; every other exception, SystemExit included, is the value's own fault.
NEVER_A_COPY_FAILURE = (KeyboardInterrupt, NodeStopped)

_SECONDS = 5.0
_DEPTH = 60


class Uncopyable(Exception):
    """A value cannot be pickled, so it could not be sent on FLAME.

    `path` leads from the value to the smallest part that fails, as in `.model["hook"]`; it is empty where that is the
    value itself. `type_name` is that part's type, `cause` the exception that it raised.
    """

    def __init__(self, path: str, type_name: str, cause: BaseException) -> None:
        super().__init__(path, type_name, cause)
        self.path = path
        self.type_name = type_name
        self.cause = cause

    def __str__(self) -> str:
        where = f"its part {self.path}, of type {self.type_name}," if self.path else f"a value of type {self.type_name}"
        return f"{where} cannot be copied: {type(self.cause).__name__}: {self.cause}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Uncopyable, (self.path, self.type_name, _picklable(self.cause))


def uncopyable(value: Any, cause: BaseException, attempt: Callable[[Any], object]) -> Uncopyable:
    """The Uncopyable for `value`, whose copy ended in `cause`.

    `attempt` copies one part, and raises where it cannot. The search repeats it on ever smaller parts, for a few
    seconds at most; then it names the smallest that it had found.
    """
    culprit = _Search(attempt).run(value, cause)
    return Uncopyable(culprit.path, qualified_name(type(culprit.value)), culprit.cause)


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    path: str
    value: Any
    cause: BaseException


class _Search:
    def __init__(self, attempt: Callable[[Any], object]) -> None:
        self._attempt = attempt
        self._deadline = time.monotonic() + _SECONDS
        self._seen: dict[int, Any] = {}  # the objects too, since an id is reused once its object is gone
        self._smallest: _Part | None = None

    def run(self, value: Any, cause: BaseException) -> _Part:
        root = _Part("", value, cause)
        if isinstance(cause, RecursionError | MemoryError):
            return root  # the whole is too deep or too big: no part is to blame
        self._smallest = root
        return self._below(root, 0) or self._smallest

    def _below(self, part: _Part, depth: int) -> _Part | None:
        """The smallest failing part in `part`; None where it fails only through an object that is looked at already."""
        self._seen[id(part.value)] = part.value
        self._smallest = part
        if depth >= _DEPTH:
            return part
        parts = list(_parts(part.value))
        through_seen = False
        while parts and time.monotonic() < self._deadline:
            found = self._first_failing(parts)
            if found is None:
                break
            index, failing = found
            del parts[: index + 1]
            if id(failing.value) in self._seen:
                through_seen = True
                continue
            inner = self._below(_Part(part.path + failing.path, failing.value, failing.cause), depth + 1)
            if inner is not None:
                return inner
            through_seen = True
        return None if through_seen else part

    def _first_failing(self, parts: list[tuple[str, Any]]) -> tuple[int, _Part] | None:
        """By halves, so that a part of a long list is found in about the time of two copies of the list."""
        low, high = 0, len(parts)
        while high - low > 1:
            middle = (low + high) // 2
            if self._failure([value for _, value in parts[low:middle]]) is not None:
                high = middle
            else:
                low = middle
        path, value = parts[low]
        cause = self._failure(value)
        return None if cause is None else (low, _Part(path, value, cause))

    def _failure(self, value: Any) -> BaseException | None:
        try:
            self._attempt(value)
        except NEVER_A_COPY_FAILURE:
            raise
        except BaseException as error:
            return error
        return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts that pickling would visit, each with its path from `value`."""
    if isinstance(value, type | types.FunctionType | types.ModuleType):
        return
    if isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        return
    table = _columns(value)
    if table is not None:
        yield from table
        return
    if type(value) in (dict, list, tuple, set, frozenset):
        yield from _elements(value)
        return
    yield from _state(value)
    if isinstance(value, dict | list | tuple | set | frozenset):
        yield from _elements(value)


def _elements(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for number, (key, element) in enumerate(value.items()):
            yield f".keys()[{number}]", key
            yield f"[{_key(key)}]", element
    elif isinstance(value, list | tuple):
        for number, element in enumerate(value):
            yield f"[{number}]", element
    else:
        for element in value:
            yield "{element}", element


def _state(value: Any) -> Iterator[tuple[str, Any]]:
    """What `value` tells pickle to store: its attributes, or what a `__getstate__` or `__reduce__` leaves of them."""
    try:
        reduced = value.__reduce_ex__(4)
    except NEVER_A_COPY_FAILURE:
        raise
    except BaseException:  # it is what fails, then: the search has its exception already
        return
    if not isinstance(reduced, tuple) or len(reduced) < 2:
        return
    if isinstance(reduced[1], tuple):
        for number, argument in enumerate(reduced[1]):
            if not isinstance(argument, type):
                yield f".__reduce__()[1][{number}]", argument
    states = reduced[2] if len(reduced) > 2 else None
    if dataclasses.is_dataclass(value) and isinstance(states, list):  # frozen with slots: values in order
        names = [field.name for field in dataclasses.fields(value)]
        states = dict(zip(names, states, strict=False))
    for state in states if isinstance(states, tuple) else (states,):
        if isinstance(state, dict):
            for name, element in state.items():
                yield (f".{name}" if isinstance(name, str) else f"[{_key(name)}]"), element
        elif state is not None:
            yield ".__getstate__()", state


def _columns(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The columns of a DataFrame, the elements of a Series or of an array of objects; None for anything else."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series):
        return ((f"[{_key(label)}]", element) for label, element in value.items())
    if numpy is not None and type(value) is numpy.ndarray and value.dtype == object:
        return ((str(list(index)), value[index]) for index in numpy.ndindex(value.shape))
    return None


def _key(key: Any) -> str:
    """How a key reads between brackets; only plain keys are shown, since a `repr` is the user's code."""
    if type(key) is str:
        return '"' + (key if len(key) <= 40 else key[:37] + "...") + '"'
    return repr(key) if type(key) in (int, float, bool, type(None)) else f"<{type(key).__name__}>"


def qualified_name(cls: type) -> str:
    """A class's name with its module, which builtins go without."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
