"""Whether an aggregate depends on the order in which the contributions stand."""

from __future__ import annotations

import copy
import inspect
import random
import sys
from types import CoroutineType
from typing import Any

from ..isolation import Uncopyable, private_copy
from .walk import fingerprint, is_array, is_number, parts

__all__ = ["Permuted", "difference", "permuted"]

ROUNDING = 1e-9
"""The relative difference up to which an aggregate counts as the same: the order of a sum changes its last bits."""


class NotOnACopy(Exception):
    """The copy of an aggregator used something that only the aggregator itself may."""


class _QuietFlame:
    """`self.flame` of a copy: it answers who is who, keeps quiet, and does nothing."""

    def __init__(self, flame: Any) -> None:
        self._flame = flame

    def __getattr__(self, name: str) -> Any:
        if name in ("flame_log", "set_progress", "declare_log_types"):
            return lambda *args, **kwargs: None
        if name in ("config", "get_progress") or (name.startswith("get_") and not name.startswith("get_inter")):
            return getattr(self._flame, name)
        raise NotOnACopy(f"self.flame.{name}")


class Permuted:
    """A copy of an aggregator, made before it aggregates, and copies of the contributions in reverse order.

    Raises whatever says that they cannot be copied.
    """

    def __init__(self, node: Any, contributions: list[Any]) -> None:
        self._node = copy.deepcopy(node, {id(node.flame): _QuietFlame(node.flame)})
        self._contributions = [private_copy(value)[0] for value in reversed(contributions)]
        self._generators = _generators()

    def aggregate(self) -> Any:
        """What the copy makes of the reversed contributions, drawing the same random numbers."""
        after = _generators()
        _restore(self._generators)
        try:
            result = self._node.aggregation_method(self._contributions)
        finally:
            _restore(after)
        if type(result) is CoroutineType:
            result.close()
            raise NotOnACopy("an async def aggregation_method")
        return result


def permuted(node: Any, contributions: list[Any]) -> Permuted | str | None:
    """What aggregates the same contributions in another order; a text where that cannot be had, None where there is no
    other order."""
    if len(contributions) < 2:
        return None
    if inspect.iscoroutinefunction(node.aggregation_method):
        return "an async def aggregation_method"
    try:
        return Permuted(node, contributions)
    except Uncopyable as error:
        return type(error.cause).__name__
    except Exception as error:  # whatever the aggregator's own code raises when it is copied
        return type(error).__name__


def difference(first: Any, second: Any) -> float | None:
    """By how much two aggregates differ: 0.0 for the same up to rounding, else the largest relative difference of
    their numbers; None where they differ in something else than numbers."""
    if fingerprint(first) == fingerprint(second):
        return 0.0
    ours, theirs = list(parts(first)), list(parts(second))
    if [path for path, _ in ours] != [path for path, _ in theirs]:
        return None
    largest = 0.0
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        apart = _apart(one, other)
        if apart is None:
            return None
        largest = max(largest, apart)
    return 0.0 if largest <= ROUNDING else largest


def _apart(one: Any, other: Any) -> float | None:
    if type(one) is not type(other):
        return None
    if is_array(one):
        if one.shape != other.shape or one.dtype != other.dtype:
            return None
        if one.dtype.kind in "biufc" and one.size:
            scale = max(float(abs(one).max()), float(abs(other).max())) if one.dtype.kind != "b" else 1.0
            return _relative(float(abs(one.astype(complex) - other.astype(complex)).max()), scale)
        return 0.0 if bool((one == other).all()) else None
    if isinstance(one, str | bytes | bytearray):
        return 0.0 if one == other else None
    if isinstance(one, int | float | complex) or is_number(one):
        if one == other or (one != one and other != other):
            return 0.0
        return _relative(float(abs(one - other)), float(max(abs(one), abs(other))))
    return 0.0  # a container, or an object, whose parts are compared themselves


def _relative(apart: float, scale: float) -> float:
    return apart / scale if scale else apart


def _generators() -> tuple[Any, Any]:
    numpy = sys.modules.get("numpy.random")
    return random.getstate(), None if numpy is None else numpy.get_state()


def _restore(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    if states[1] is not None:
        sys.modules["numpy.random"].set_state(states[1])
