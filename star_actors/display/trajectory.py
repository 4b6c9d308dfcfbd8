"""The way of the aggregate through a run: its norm in each round, and how far it moved since the round before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from star_actors.release.withheld import Withheld
from star_actors.report import Round, Summary

from .formats import number, size
from .values import Numbers

__all__ = ["Step", "aggregate_text", "is_private", "measured", "pick", "trajectory"]


@dataclass(frozen=True, slots=True)
class Step:
    """One round: its `numbers` (None where the aggregate has none), and the `change` since the round before (None
    where there is nothing to compare with)."""

    number: int
    numbers: Numbers | None
    change: float | None


def trajectory(rounds: Sequence[Round], chosen: Sequence[int]) -> list[Step]:
    """The steps of the `chosen` positions in `rounds`, in ascending order; each is compared with the round before."""
    steps = []
    position, before = -1, None
    for i in chosen:
        if i and position != i - 1:
            before = measured(rounds[i - 1].aggregate)
        now = measured(rounds[i].aggregate)
        change = None if i == 0 or now is None or before is None else now.distance(before)
        steps.append(Step(rounds[i].number, now, change))
        position, before = i, now
    return steps


def measured(aggregate: Any) -> Numbers | None:
    """The numbers in an aggregate; None where there are none."""
    numbers = Numbers(aggregate)
    return numbers if numbers.size else None


def pick(n: int, limit: int, *, first: int = 0, last: int = 0) -> list[int]:
    """At most `limit` of `n` positions: the `first` and `last` ones, and evenly spaced ones between."""
    if n <= limit:
        return list(range(n))
    first, last = min(first, limit), min(last, limit - first)
    room = limit - first - last
    gap = n - first - last
    between = [first + (2 * i + 1) * gap // (2 * room) for i in range(room)]
    return [*range(first), *between, *range(n - last, n)]


def aggregate_text(aggregate: Any, numbers: Numbers | None) -> str:
    """What stands for an aggregate in a table: the number itself, the norm of many, a word for everything else."""
    if isinstance(aggregate, Withheld):
        return "withheld"
    if isinstance(aggregate, Summary):
        return f"dropped ({aggregate.type}, {size(aggregate.nbytes)})"
    if numbers is None:
        return repr(aggregate) if aggregate is None or isinstance(aggregate, bool) else type(aggregate).__name__
    if numbers.single is not None:
        return number(numbers.single)
    return f"norm {number(numbers.norm())}"


def is_private(report: Any) -> bool:
    """Whether noise protects the run: then what nodes logged is not shown."""
    return report.privacy is not None or any(isinstance(r.aggregate, Withheld) for r in report.rounds[-1:])
