"""What a payload gives away of the rows that it was computed from.

The models are DataSHIELD's disclosure traps (smallest cell of a table, shares of a subset, saturated models) and
NVFlare's filters on what leaves a site. What is found is said without any value: whoever reads a report must not learn
from the warning what the warning is about.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from .rows import Rows
from .walk import Path, Pieces, is_array, is_table, named

__all__ = ["Disclosed", "Numbers", "compared", "disclosed", "equal_to_one", "numbers_of"]

_MOST = 100_000
_FEWEST = 3
"""Rows, from which a payload as long as they are many is likely one value for each."""
_NO_COUNT = re.compile(
    r"(^|[^a-z])(round|iter|iteration|iterations|epoch|epochs|step|seed|version|index|idx|position|depth|degree|dim|dims|"
    r"ndim|shape|level|port|class|label|cluster|k|page|node|site|bins|features|columns|cols|params|order|lag|year|month|"
    r"day|hour|lr|rank|df|status|code)s?$"
)


class Disclosed(NamedTuple):
    """What is given away, what to do, and at which path."""

    message: str
    advice: str
    path: str


Numbers = dict[Path, int | float]
"""The single numbers of a payload, by path."""


def disclosed(pieces: Pieces, root: str, rows: Callable[[], Rows], min_cell: int, round: int | None) -> list[Disclosed]:
    """What a payload, taken apart into `pieces`, discloses. `rows` reads the node's data, and is called only where
    there is something to compare."""
    found = _identifiers(pieces, root, rows)
    hidden = found[1]
    return [
        *found[0],
        *_row_shaped(pieces, root, rows, hidden),
        *_small_cells(pieces, root, rows, min_cell, round, hidden),
    ]


def numbers_of(pieces: Pieces) -> Numbers:
    """The single numbers in a payload, but for those that count something else than people."""
    return {path: part for path, part in pieces if type(part) in (int, float) and not _counts_something_else(path)}


def compared(before: Numbers, after: Numbers, root: str, rows: Callable[[], Rows], min_cell: int) -> list[Disclosed]:
    """What the difference of two rounds' numbers gives away, though neither may by itself: a count that moves by a few
    people, or a sum that moves by one row's value."""
    found = []
    values: set[float] | None = None
    for path, new in after.items():
        old = before.get(path)
        if old is None or type(old) is not type(new) or old == new:
            continue
        if type(new) is int and type(old) is int:
            if min(old, new) >= min_cell and abs(new - old) < min_cell:
                found.append(path)
        elif math.isfinite(new) and math.isfinite(old):
            if values is None:
                values = {v for _, column in rows().columns for v in column if _is_telling(v)}
            step = abs(new - old)
            if any(math.isclose(step, abs(v), rel_tol=1e-9) for v in values):
                found.append(path)
    return [
        Disclosed(
            "the difference between two rounds singles somebody out: a number moves by fewer people than a count may "
            "stand for, or by the value of a single row",
            "compute every round on the same rows, or on groups that differ by many; or add noise (Privacy)",
            named(root, path),
        )
        for path in found[:1]
    ]


def equal_to_one(aggregate: Any, contributions: Sequence[Any], same: Callable[[Any, Any], bool]) -> int | None:
    """The position of the one contribution that an aggregate of several repeats; None where there is none, or where
    several nodes sent the same."""
    if len(contributions) < 2 or aggregate is None or type(aggregate) is bool:
        return None
    equal = []
    for position, contribution in enumerate(contributions):
        if type(contribution) is type(aggregate) and same(aggregate, contribution):
            equal.append(position)
            if len(equal) > 1:
                return None
    return equal[0] if equal else None


def _identifiers(pieces: Pieces, root: str, rows: Callable[[], Rows]) -> tuple[list[Disclosed], set[str]]:
    texts: dict[str, tuple[Path, bool]] = {}
    for path, part in pieces:
        if type(part) is str:
            texts.setdefault(part, (path, False))
        elif is_array(part) and part.dtype.kind in "OUS" and part.size <= _MOST:
            for element in part.ravel().tolist():
                if type(element) is str:
                    texts.setdefault(element, (path, False))
        if path and path[-1][0] == "key" and type(path[-1][1]) is str:
            texts.setdefault(path[-1][1], (path, True))
    groups = [(path, numbers) for path, part in pieces if (numbers := _whole_numbers(part)) is not None]
    if not texts and not groups:
        return [], set()
    known = rows()
    hits = {text: where for text, where in texts.items() if text in known.identifiers}
    columns = {name for name, _ in known.columns}
    hits = {text: where for text, where in hits.items() if text not in columns}
    hidden = set(hits)
    places = [where for where, _ in hits.values()]
    places += [where for where, numbers in groups if len(numbers) >= _FEWEST and numbers <= known.numbers]
    if not places:
        return [], hidden
    return [
        Disclosed(
            "identifiers of the node's data leave it: ids of resources or people, or the values of a key column",
            "send aggregates over people, and leave their identifiers at the node",
            named(root, places[0], hidden),
        )
    ], hidden


def _row_shaped(pieces: Pieces, root: str, rows: Callable[[], Rows], hidden: set[str]) -> list[Disclosed]:
    for path, part in pieces:
        if not _is_sequence(part):
            continue
        known = rows()
        if known.count is None or known.count < _FEWEST:
            return []
        length = len(part)
        if length == known.count:
            repeats = _repeats_a_column(part, known)
            message = (
                "the payload holds the values of the node's own rows"
                if repeats
                else "the payload is as long as the node has rows: it looks like one value for each"
            )
        elif _repeats_some(part, known):
            message = "the payload holds values of some of the node's own rows"
        else:
            continue
        advice = "send sums, counts or fitted parameters instead of one value for each row"
        return [Disclosed(message, advice, named(root, path, hidden))]
    return []


def _small_cells(
    pieces: Pieces, root: str, rows: Callable[[], Rows], min_cell: int, round: int | None, hidden: set[str]
) -> list[Disclosed]:
    if min_cell < 2:
        return []
    containers = {path: part for path, part in pieces if isinstance(part, list | tuple)}
    for path, part in pieces:
        small = False
        if _counts_something_else(path):
            continue
        if _is_whole(part):
            # A number that is the round's is most likely that.
            small = 0 < part < min_cell and not (round and int(part) == round)
            if small and not path:
                # A number alone may be anything; a count of rows is no larger than their number.
                small = part <= (rows().count or 0)
            around = containers.get(path[:-1]) if path and path[-1][0] == "item" else None
            if small and around is not None and any(_is_whole(other) and other < 0 for other in around):
                small = False
        elif is_array(part) and part.dtype.kind in "iu" and 0 < part.size <= _MOST:
            small = bool(((part > 0) & (part < min_cell)).any()) and not bool((part < 0).any())
        if small:
            return [
                Disclosed(
                    f"a count below {min_cell} leaves the node: fewer people than Checks(min_cell={min_cell}) allows",
                    "send no group that small: merge it with another, or send None for it; min_cell sets the threshold",
                    named(root, path, hidden),
                )
            ]
    return []


def _counts_something_else(path: Path) -> bool:
    for kind, key, _ in reversed(path):
        if kind != "item":
            return isinstance(key, str) and _NO_COUNT.search(key.lower()) is not None
    return False


def _is_sequence(part: Any) -> bool:
    if is_array(part):
        return bool(part.ndim)
    return type(part) in (list, tuple) or is_table(part)


def _is_whole(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return type(value) is int or (numpy is not None and isinstance(value, numpy.integer))


def _whole_numbers(part: Any) -> set[int] | None:
    if is_array(part):
        return set(part.ravel().tolist()) if part.dtype.kind in "iu" and 0 < part.size <= _MOST else None
    if type(part) in (list, tuple, set, frozenset) and 0 < len(part) <= _MOST and set(map(type, part)) == {int}:
        return set(part)
    return set(part) if type(part) is dict and 0 < len(part) <= _MOST and set(map(type, part)) == {int} else None


def _values(part: Any) -> list[Any] | None:
    if len(part) > _MOST:
        return None
    if is_array(part):
        return part.tolist() if part.ndim == 1 else None
    return list(part) if type(part) in (list, tuple) else None


def _repeats_a_column(part: Any, known: Rows) -> bool:
    if is_table(part) or (is_array(part) and part.ndim > 1):
        return False
    values = _values(part)
    if values is None or not _are_plain(values):
        return False
    ordered = sorted(map(_order, values))
    return any(len(column) == len(values) and ordered == sorted(map(_order, column)) for _, column in known.columns)


def _repeats_some(part: Any, known: Rows) -> bool:
    """Whether a shorter payload is a run of values of one column, or one whole row."""
    values = _values(part)
    if values is None or len(values) < _FEWEST or not _are_plain(values):
        return False
    if len({_order(value) for value in values}) < _FEWEST:
        return False
    length = len(values)
    for _, column in known.columns[:20]:
        if length < len(column):
            starts = [i for i, value in enumerate(column[: len(column) - length + 1]) if value == values[0]]
            if any(column[i : i + length] == values for i in starts):
                return True
    if length == len(known.columns):
        return tuple(values) in set(zip(*(map(_hashable, column) for _, column in known.columns), strict=False))
    return False


def _are_plain(values: Iterable[Any]) -> bool:
    return {type(value) for value in values} <= {int, float, str, bool, type(None)}


def _order(value: Any) -> tuple[str, Any]:
    if isinstance(value, int | float):
        return ("n", float(value)) if abs(value) < 1e300 else ("n", 0.0)
    return (type(value).__name__, value if isinstance(value, str) else 0)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else id(value)


def _is_telling(value: Any) -> bool:
    """Whether a value is so particular that no sum moves by it by chance."""
    return type(value) is float and math.isfinite(value) and value != 0 and not (value * 100).is_integer()
