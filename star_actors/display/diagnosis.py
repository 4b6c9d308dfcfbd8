"""How a run went, in words: whether it converged, how fast, and what to do where it did not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from star_actors.release.withheld import Withheld
from star_actors.report import Round, Summary

from .formats import amount, count, number
from .trajectory import Step, pick, trajectory

if TYPE_CHECKING:
    from star_actors.report import Report

__all__ = ["Diagnosis", "DiagnosisKind", "diagnose"]

DiagnosisKind = Literal[
    "single round", "converging", "oscillating", "diverging", "stuck", "true at once", "never true", "undetermined"
]

_WINDOW = 64
_SAMPLE = 300
_LONGEST_PERIOD = 20
_LARGE = 20_000


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What became of a run.

    `kind` is one of a few words, `text` says it in a sentence, and `advice` what to do, in one more. `rate` is the
    factor by which the change shrinks (below 1) or grows from one round to the next, `period` the number of rounds
    after which an oscillating aggregate comes back; both None where they have no meaning.
    """

    kind: DiagnosisKind
    text: str
    advice: str
    rate: float | None = None
    period: int | None = None

    def __str__(self) -> str:
        return f"{self.text} {self.advice}"


def diagnose(report: Report) -> Diagnosis:
    """Say how a run went, from the aggregates that its report holds.

    Looks at the last 64 rounds, and at up to 300 others. Where a run was ended by `max_iterations` because the
    aggregate oscillates, diverges or does not move, that is its kind; "never true" is a run that was on a good way.
    """
    rounds = report.rounds
    if not rounds:
        return Diagnosis("undetermined", "No round was finished.", _ENDED_EARLY.get(report.stop_reason or "", ""))
    if report.stop_reason == "single round":
        return Diagnosis(
            "single round",
            "One round, as asked: there is nothing to converge.",
            "Pass simple_analysis=False for an analysis that iterates.",
        )
    last = rounds[-1].aggregate
    if isinstance(last, Withheld):
        return _unseen(report, "the aggregates are withheld, since privacy is on")
    chosen = pick(len(rounds), _WINDOW + _SAMPLE, first=_WINDOW // 4, last=_WINDOW)
    steps = trajectory(rounds, chosen)
    if steps[-1].numbers is None:
        dropped = isinstance(last, Summary)
        return _unseen(report, "its aggregates were dropped" if dropped else "there is no number in the aggregate")
    bad = _first_not_finite(steps, rounds)
    if bad is not None:
        return Diagnosis(
            "diverging",
            f"Diverging: since round {bad} the aggregate holds NaN or infinite numbers.",
            f"Log what the nodes compute in round {bad}: look for a division by zero, a logarithm of nothing, an "
            "overflow or too large a step.",
        )
    if report.stop_reason == "converged" and len(rounds) <= 2:
        return _true_at_once(steps)
    return _judge(report, steps)


def _judge(report: Report, steps: list[Step]) -> Diagnosis:
    window = _consecutive(steps)
    never = _never(report)
    changes = [0.0 if _is_rounding(step) else step.change or 0.0 for step in window[1:]]
    if len(changes) < 2:
        return Diagnosis(
            "undetermined",
            f"{never or _ended(report)} That is too short to tell where the aggregate goes.",
            _ENDED_EARLY.get(report.stop_reason or "", "Let it run for more rounds."),
        )
    if changes[-1] == 0.0 and _rests(changes):
        return _at_rest(report, steps, never)
    rate = _rate(changes)
    # What comes back exactly oscillates, even where its last steps happen to be the shorter ones.
    period = _period(window, changes, nearness=1e-6)
    if period is None and _shrinks(changes):
        return _converging(report, changes[-1], rate, never)
    period = period or _period(window, changes, nearness=0.05)
    if period is not None:
        return Diagnosis(
            "oscillating",
            f"{never}Oscillating: the aggregate comes back every {count(period, 'round')}, and moves by "
            f"{amount(max(changes[-period:]))} in between.",
            "Take smaller steps: average the new aggregate with the last one (damping), or lower the learning rate.",
            period=period,
        )
    if _creeps(changes):
        return _converging(report, changes[-1], rate, never)
    long_rate = _long_rate(steps)
    if long_rate is not None:
        return _converging(report, changes[-1], long_rate, never)
    if rate is not None and rate > 1.02 and changes[-1] > 2 * changes[0]:
        return Diagnosis(
            "diverging",
            f"{never}Diverging: each round moves the aggregate {number(rate, 3)} times as far as the one before; it is "
            f"now {amount(changes[-1])} a round.",
            "Take smaller steps, or check the sign of the update and what the contributions are divided by.",
            rate=rate,
        )
    if _drifts(window, changes):
        return Diagnosis(
            "diverging",
            f"{never}Diverging: the aggregate drifts on by about {amount(_median(changes))} a round, always the "
            "same way.",
            "Check whether a sum is meant to be a mean, and whether the last aggregate is added where it should be "
            "replaced.",
            rate=rate,
        )
    return _wanders(report, steps, changes, never)


def _converging(report: Report, change: float, rate: float | None, never: str) -> Diagnosis:
    now = f"to {amount(change)} at the end"
    if rate is None or rate >= 1:
        how = f"the change per round shrinks slowly, {now}."
    elif rate >= 0.98:
        how = f"the change halves about every {count(round(math.log(0.5) / math.log(rate)), 'round')}, {now}."
    else:
        how = f"each round shrinks the change to {amount(rate)} of the one before, {now}."
        if change:
            how += f" At that rate the aggregate is within {amount(change * rate / (1 - rate))} of its limit."
    if never:
        text = f"{never[:-2]}, although the aggregate converges: {how}"
        advice = "Raise max_iterations, or let has_converged accept a larger change."
        return Diagnosis("never true", text, advice, rate=rate)
    advice = _ENDED_EARLY.get(report.stop_reason or "", "Let it go on.")
    return Diagnosis("converging", f"Converging: {how}", advice, rate=rate)


def _at_rest(report: Report, steps: list[Step], never: str) -> Diagnosis:
    moved = any(step.change and not _is_rounding(step) for step in steps)
    if moved and report.stop_reason == "converged":
        return Diagnosis("converging", "Converged to a fixed point: the aggregate does not move any more.", _FINE)
    since = next((step.number for step in reversed(steps) if step.change and not _is_rounding(step)), 0)
    where = f"has not moved since round {since}" if since else "never moved"
    if moved:
        advice = "It has arrived: let has_converged be true where the change is zero or below a tolerance."
    else:
        advice = "Check that analysis_method uses aggregator_results: every round computes the same."
    return Diagnosis("stuck", f"{never}Stuck: the aggregate {where}.", advice)


def _wanders(report: Report, steps: list[Step], changes: list[float], never: str) -> Diagnosis:
    floor = amount(_median(changes))
    early = [step.change for step in steps[: max(3, len(steps) // 10)] if step.change]
    shrank = bool(early) and max(early) > 10 * _median(changes)
    advice = "Accept that much change in has_converged, or take out what differs by chance from round to round."
    if report.privacy is not None and getattr(report.privacy, "noise_at", "final") != "final":
        advice = "Noise is added in every round: accept that much change in has_converged, or spend more epsilon."
    shrinking = "has stopped shrinking" if shrank else "does not shrink"
    return Diagnosis("stuck", f"{never}Stuck: the change per round {shrinking}; it stays at about {floor}.", advice)


def _true_at_once(steps: list[Step]) -> Diagnosis:
    change = steps[-1].change
    moved = "" if change is None else f", while the aggregate still moved by {amount(change)}"
    if change == 0.0:
        return Diagnosis(
            "true at once",
            "has_converged was true the first time it counted, in round 1: the aggregate did not move.",
            "Check that analysis_method uses aggregator_results; where it need not, simple_analysis=True is enough.",
        )
    return Diagnosis(
        "true at once",
        f"has_converged was true the first time it counted, in round 1{moved}.",
        "Check that it compares result with last_result, and that it does not accept too large a change.",
    )


def _unseen(report: Report, why: str) -> Diagnosis:
    kind: DiagnosisKind = "undetermined"
    advice = "Log in has_converged what it compares, to see how it goes."
    if report.stop_reason == "converged" and len(report.rounds) <= 2:
        kind = "true at once"
        advice = "Check that has_converged compares result with last_result."
    elif report.stop_reason == "max_iterations":
        kind = "never true"
        advice = "Check has_converged, or raise max_iterations."
    elif report.stop_reason == "converged":
        advice = _FINE
    return Diagnosis(kind, f"{_ended(report)} How far it moved cannot be told: {why}.", advice)


_FINE = "Nothing needs doing."
_ENDED_EARLY: dict[str, str] = {
    "failed": "The error says which node failed, and where.",
    "timeout": "Look for a method that does not return, or raise timeout.",
    "stopped": "Let it run to its end.",
    "budget": "Spend less epsilon in each round, or raise the budget.",
    "max_iterations": "Raise max_iterations.",
    "converged": _FINE,
}


def _ended(report: Report) -> str:
    rounds = count(len(report.rounds), "round")
    if report.stop_reason == "converged":
        return f"has_converged was true after {rounds}."
    return _never(report).strip() or f"The run ended after {rounds}."


def _never(report: Report) -> str:
    if report.stop_reason != "max_iterations":
        return ""
    return f"has_converged was never true in {count(len(report.rounds), 'round')}. "


def _consecutive(steps: list[Step]) -> list[Step]:
    """The last rounds that follow on each other, all with numbers of the same structure."""
    window = [steps[-1]]
    for step in reversed(steps[:-1]):
        change = window[-1].change
        if len(window) > _WINDOW or step.number != window[-1].number - 1 or change is None or not math.isfinite(change):
            break
        window.append(step)
    return window[::-1]


def _first_not_finite(steps: Sequence[Step], rounds: Sequence[Round]) -> int | None:
    if steps[-1].numbers is None or steps[-1].numbers.finite():
        return None
    # Once NaN, mostly always NaN: look for the first among all rounds by halves.
    low, high = -1, len(rounds) - 1
    while high - low > 1:
        middle = (low + high) // 2
        (step,) = trajectory(rounds, [middle])
        if step.numbers is not None and not step.numbers.finite():
            high = middle
        else:
            low = middle
    return rounds[high].number


def _is_rounding(step: Step) -> bool:
    """Whether a change is no more than the last bits of its numbers."""
    return bool(step.change and step.numbers and step.change <= 4 * _EPSILON * step.numbers.norm())


_EPSILON = 2.0**-52


def _rests(changes: list[float]) -> bool:
    """Whether the aggregate came to rest for good: at least two rounds, or a quarter of them, without a change."""
    still = 0
    for change in reversed(changes):
        if change:
            break
        still += 1
    return still >= 2 or 4 * still >= len(changes)


def _rate(changes: list[float]) -> float | None:
    """The factor from one change to the next."""
    return _fitted(list(enumerate(changes)))


def _fitted(points: list[tuple[int, float]]) -> float | None:
    """The factor by which changes grow from round to round: the slope of their logarithms, by least squares."""
    logs = [(number, math.log(change)) for number, change in points if change > 0]
    if len(logs) < 2:
        return None
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)
    return math.exp(min(slope, 700.0))


def _long_rate(steps: list[Step]) -> float | None:
    """The rate of a run that shrinks too slowly to be seen in its last rounds; None where it does not.

    The last two quarters of the whole run are compared: what has come to a floor has the same changes in both.
    """
    last = steps[-1].number
    half = [
        (step.number, step.change)
        for step in steps
        if step.change and not _is_rounding(step) and math.isfinite(step.change) and 2 * step.number >= last
    ]
    early = [change for number, change in half if 4 * number < 3 * last]
    late = [change for number, change in half if 4 * number >= 3 * last]
    if min(len(early), len(late)) < 30 or _median(late) >= 0.7 * _median(early):
        return None
    return _fitted(half)


def _thirds(changes: list[float]) -> tuple[float, float]:
    third = max(1, len(changes) // 3)
    return _median(changes[:third]), _median(changes[-third:])


def _shrinks(changes: list[float]) -> bool:
    early, late = _thirds(changes)
    return late < (0.5 if len(changes) >= 6 else 0.9) * early


def _creeps(changes: list[float]) -> bool:
    """Whether the change shrinks slower than any rate, as 1/k does: by little, but nearly every time."""
    early, late = _thirds(changes)
    falls = sum(after < before for before, after in pairwise(changes))
    return len(changes) >= 6 and late < 0.98 * early and falls >= 0.9 * (len(changes) - 1)


def _period(window: list[Step], changes: list[float], *, nearness: float) -> int | None:
    """The smallest number of rounds after which the aggregate is where it was, nearly; it must have come by twice."""
    biggest = max(step.numbers.size for step in window if step.numbers is not None)
    longest = 4 if biggest > _LARGE else _LONGEST_PERIOD
    for period in range(2, min(longest, len(window) // 2) + 1):
        # Each lap beside the steps that it is made of: a swing that is damped comes by less and less near, as it goes.
        laps = [
            (now.numbers.distance(then.numbers), _median(changes[i : i + period]))
            for i, (then, now) in enumerate(zip(window, window[period:], strict=False))
            if now.numbers is not None and then.numbers is not None
        ][-3 * period :]
        if laps and all(lap is not None and lap <= nearness * step for lap, step in laps):
            return period
    return None


def _drifts(window: list[Step], changes: list[float]) -> bool:
    first, last = window[0].numbers, window[-1].numbers
    if first is None or last is None:
        return False
    way = last.distance(first)
    return way is not None and len(changes) >= 3 and way > 0.8 * sum(changes)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
