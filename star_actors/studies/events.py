"""What tells two inputs apart by what is released: statistics, and the events on them that an audit counts.

Statistics and thresholds are chosen on one half of the releases, so that the other half can test them fairly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Transform = Callable[[NDArray[np.float64]], NDArray[np.float64]]

__all__ = ["FAMILIES", "Event", "Sample", "choose_events", "epsilon_bound"]

FAMILIES = (
    "kind",
    "value",
    "exact value",
    "distance",
    "granularity",
    "low bits",
    "cells",
    "seen",
    "pair",
    "likelihood",
    "projection",
)
"""The kinds of event that are looked at; one of each, in each direction, may be chosen."""

_COORDINATES = 8
_DIRECTIONS = 2
_PAIRED = 4
_THRESHOLDS = 200
_ATOMS = 3
_BINS = 16
_NO_BIT = 2000.0
"""Stands for the lowest set bit of zero, which has none: coarser than any other number."""


@dataclass(frozen=True)
class Sample:
    """Releases of one input: `kinds` says what each one was (n,), `numbers` holds those that were numbers (n, d).

    Rows of `numbers` are NaN where the release was of another kind: an exception, another type, another shape.
    """

    kinds: NDArray[np.int64]
    numbers: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> Sample:
        """Some of the releases."""
        return Sample(self.kinds[rows], self.numbers[rows])

    def __len__(self) -> int:
        return len(self.kinds)


@dataclass(frozen=True)
class Event:
    """Something that a release is or is not; `count` says how many releases of a sample are."""

    description: str
    holds: Callable[[Sample], NDArray[np.bool_]]

    def count(self, sample: Sample) -> int:
        """How many releases of `sample` it holds for."""
        return int(self.holds(sample).sum())


@dataclass(frozen=True)
class _Statistic:
    family: str
    name: str
    of: _Transform


@dataclass(frozen=True)
class _Scored:
    """An event, how well it told the inputs apart in training, and whether the first input makes it likelier."""

    score: float
    first: bool
    family: str
    event: Event


def epsilon_bound(often: Any, seldom: Any, n_often: int, n_seldom: int, delta: float, level: float) -> Any:
    """The epsilon that events prove, each bound failing with probability `level`; arrays of counts or single ones.

    `often` of `n_often` releases of one input had the event, `seldom` of `n_seldom` of the other (Clopper and Pearson).
    """
    import numpy as np
    from scipy.special import betaincinv  # type: ignore[import-untyped, unused-ignore]

    often, seldom = np.asarray(often, dtype=float), np.asarray(seldom, dtype=float)
    least = np.where(often > 0, betaincinv(np.maximum(often, 1), n_often - often + 1, level), 0.0)
    most = np.where(seldom < n_seldom, betaincinv(seldom + 1, np.maximum(n_seldom - seldom, 1), 1 - level), 1.0)
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(np.maximum(least - delta, 0.0) / most), 0.0)


def choose_events(
    first: Sample, second: Sample, kinds: list[str], delta: float, level: float, rng: np.random.Generator
) -> list[tuple[Event, bool]]:
    """The events that tell `first` from `second` best: one of each family and direction, of those that tell anything.

    `kinds` names the kinds of release. The flag says whether the event is likelier under `first`.
    """
    best: dict[tuple[str, bool], _Scored] = {}
    for scored in _scored(first, second, kinds, delta, level, rng):
        key = scored.family, scored.first
        if scored.score > 0 and (key not in best or scored.score > best[key].score):
            best[key] = scored
    return [(scored.event, scored.first) for scored in best.values()]


def _scored(
    first: Sample, second: Sample, kinds: list[str], delta: float, level: float, rng: np.random.Generator
) -> Iterator[_Scored]:
    import numpy as np

    def both_ways(
        counts: NDArray[np.int64], counts2: NDArray[np.int64], family: str, event: Callable[[int], Event]
    ) -> Iterator[_Scored]:
        for is_first, often, seldom in ((True, counts, counts2), (False, counts2, counts)):
            n_often, n_seldom = (len(first), len(second)) if is_first else (len(second), len(first))
            scores = epsilon_bound(often, seldom, n_often, n_seldom, delta, level)
            at = int(np.argmax(scores))
            yield _Scored(float(scores[at]), is_first, family, event(at))

    counts = [np.bincount(sample.kinds, minlength=len(kinds)) for sample in (first, second)]
    yield from both_ways(counts[0], counts[1], "kind", lambda i: _of_kind(i, kinds[i]))
    for statistic in _statistics(first.numbers, second.numbers, rng):
        with np.errstate(invalid="ignore"):
            values = [np.sort(_finite(statistic.of(sample.numbers))) for sample in (first, second)]
        pooled = np.concatenate(values)
        if not pooled.size:
            continue
        cuts = np.unique(np.quantile(pooled, np.linspace(0, 1, _THRESHOLDS), method="nearest"))
        below = [np.searchsorted(v, cuts, "right") for v in values]
        yield from both_ways(below[0], below[1], statistic.family, _tail(statistic, cuts, "<="))
        above = [v.size - np.searchsorted(v, cuts, "left") for v in values]
        yield from both_ways(above[0], above[1], statistic.family, _tail(statistic, cuts, ">="))
        if statistic.family == "value":
            atoms = np.array([value for v in values for value in _most_common(v)])
            equal = [np.searchsorted(v, atoms, "right") - np.searchsorted(v, atoms, "left") for v in values]
            yield from both_ways(equal[0], equal[1], "exact value", _tail(statistic, atoms, "=="))


def _statistics(
    first: NDArray[np.float64], second: NDArray[np.float64], rng: np.random.Generator
) -> Iterator[_Statistic]:
    import numpy as np

    if not first.shape[1] or np.isnan(first).all() or np.isnan(second).all():
        return
    middle, middle2 = np.nanmedian(first, axis=0), np.nanmedian(second, axis=0)
    spread = np.nanmedian(np.abs(first - middle), axis=0)
    chosen = np.argsort(-np.abs(middle2 - middle) / (spread + np.finfo(float).tiny), kind="stable")[:_COORDINATES]
    for i in map(int, chosen):
        yield _Statistic("value", f"number {i}", _on(i, np.asarray))
        centre = float(middle[i])
        yield _Statistic("distance", f"distance of number {i} from {centre:.6g}", _on(i, partial(_distance, centre)))
        yield _Statistic("granularity", f"lowest set bit of number {i}", _on(i, _lowest_bit))
        yield _Statistic("low bits", f"last three bits of number {i}", _on(i, _last_bits))
        yield _cells(i, first[:, i], second[:, i])
        yield _seen(i, first[:, i], second[:, i])
    for i, j in combinations(map(int, chosen[:_PAIRED]), 2):
        yield _Statistic("pair", f"number {i} - number {j}", partial(_pair, i, j, -1))
        yield _Statistic("pair", f"number {i} + number {j}", partial(_pair, i, j, 1))
    if len(chosen) == 1:
        return
    yield _Statistic("likelihood", "likelihood ratio of all numbers", partial(_likelihood, middle, middle2))
    yield _Statistic("distance", "distance of all numbers", partial(_distances, middle))
    directions = [("the difference", middle2 - middle)]
    directions += [(f"random direction {k}", rng.standard_normal((first.shape[1],))) for k in range(_DIRECTIONS)]
    for name, direction in directions:
        yield _Statistic("projection", f"projection on {name}", partial(_projection, direction))


def _on(i: int, of: _Transform) -> _Transform:
    return lambda numbers: of(numbers[:, i])


def _distance(centre: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return abs(x - centre)


def _pair(i: int, j: int, sign: int, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    return numbers[:, i] + sign * numbers[:, j]


def _likelihood(
    middle: NDArray[np.float64], middle2: NDArray[np.float64], numbers: NDArray[np.float64]
) -> NDArray[np.float64]:
    total: NDArray[np.float64] = (abs(numbers - middle2) - abs(numbers - middle)).sum(axis=1)
    return total


def _distances(middle: NDArray[np.float64], numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = abs(numbers - middle).sum(axis=1)
    return total


def _projection(direction: NDArray[np.float64], numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    projected: NDArray[np.float64] = numbers @ direction
    return projected


def _cells(i: int, first: NDArray[np.float64], second: NDArray[np.float64]) -> _Statistic:
    """The likelihood ratio of cells of value by lowest set bit: finds bits that tell something only in some range."""
    import numpy as np

    first, second = _finite(first), _finite(second)
    edges = np.quantile(np.concatenate([first, second]), np.linspace(0, 1, _BINS + 1)[1:-1])

    def cells(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.searchsorted(edges, x).astype(float) * 4 * _NO_BIT + _lowest_bit(x)

    of_first, of_second = cells(first), cells(second)
    known = np.unique(np.concatenate([of_first, of_second]))
    counts = [np.bincount(np.searchsorted(known, c), minlength=known.size) + 0.5 for c in (of_first, of_second)]
    ratios = np.append(np.log(counts[0] / counts[1]), 0.0)

    def of(x: NDArray[np.float64]) -> NDArray[np.float64]:
        cell = cells(x)
        at = np.minimum(np.searchsorted(known, cell), known.size - 1)
        ratio = ratios[np.where(known[at] == cell, at, known.size)]
        return np.where(np.isnan(x), np.nan, ratio)

    return _Statistic("cells", f"likelihood ratio of number {i} by range and lowest set bit", _on(i, of))


def _seen(i: int, first: NDArray[np.float64], second: NDArray[np.float64]) -> _Statistic:
    """Whether exactly this value came from only one of the inputs before."""
    import numpy as np

    only_first, only_second = np.setdiff1d(first, second), np.setdiff1d(second, first)

    def of(x: NDArray[np.float64]) -> NDArray[np.float64]:
        score = np.isin(x, only_first).astype(float) - np.isin(x, only_second)
        return np.where(np.isnan(x), np.nan, score)

    return _Statistic("seen", f"number {i} seen under one input only", _on(i, of))


def _lowest_bit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The exponent of two of the lowest bit that is set."""
    import numpy as np

    mantissa, exponent = np.frexp(x)
    whole = _whole(mantissa)
    trailing = np.frexp((whole & -whole).astype(float))[1] - 1
    return np.where(np.isnan(x), np.nan, np.where(whole == 0, _NO_BIT, exponent - 53.0 + trailing))


def _last_bits(x: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return np.where(np.isnan(x), np.nan, _whole(np.frexp(x)[0]) & 7)


def _whole(mantissa: NDArray[np.float64]) -> NDArray[np.int64]:
    import numpy as np

    return (np.nan_to_num(np.abs(mantissa)) * 2.0**53).astype(np.int64)


def _most_common(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    values, counts = np.unique(ordered, return_counts=True)
    return values[np.argsort(-counts, kind="stable")[:_ATOMS]]


def _finite(x: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return x[np.isfinite(x)]


def _tail(statistic: _Statistic, cuts: NDArray[np.float64], relation: str) -> Callable[[int], Event]:
    import operator

    compare = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}[relation]

    def event(at: int) -> Event:
        cut = float(cuts[at])
        return Event(
            f"{statistic.name} {relation} {cut:.6g}", lambda sample: compare(statistic.of(sample.numbers), cut)
        )

    return event


def _of_kind(kind: int, name: str) -> Event:
    return Event(name, lambda sample: sample.kinds == kind)
