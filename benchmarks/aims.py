"""What star_actors aims for, and whether a run missed it by more than the noise of that run.

Every aim is a number per repeat, made of measurements that were taken in the same repeat, so that a machine that is
slow for a while is slow on both sides of a ratio. Microseconds of W1 and import times are put on the pace of the
machine that the aims were set on, when it was quiet: where the bare loop beside them took longer than it did there,
they are shortened by as much, never lengthened.

The noise of an aim is the larger of two: half the distance between the quartiles of that number over the repeats, and,
for a time, the same of the bare loop in the same case, relative to its median. For the efficiency on W2 and W3 the part
of the cores that this machine does not give even to bare loops in separate processes, measured in the same repeats, is
added: a machine that is busy with something else has no second core.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .contenders import CONTENDERS
from .measurement import Measurement
from .running import Results
from .workloads import Broadcast, from_dict

__all__ = ["AIMS", "Aim", "Verdict", "exit_code", "judge", "judge_one", "noise", "refusal", "spread"]

State = Literal["met", "within noise", "missed", "not measured"]

YARDSTICKS = ("bare", "naive_anyio", "pykka")
"""Without these, and one of the frameworks, a check means nothing."""

LEAST_REPEATS = 3

QUIET_NODE, QUIET_ROUND = 0.24e-6, 0.45e-6
"""Seconds that the bare loop takes on W1 for a node, and more for a round, on the quiet machine of the aims."""


@dataclass(frozen=True, kw_only=True)
class Aim:
    """One aim: a number per repeat, and the bound that its median must keep."""

    text: str
    bound: float
    unit: str
    values: Callable[[Results], list[float]]
    ours: str = "star"
    """The contender that it is about."""
    case: str | None = None
    at_least: bool = False
    """Whether the bound is a lower one."""
    below: bool = False
    """Whether the bound itself is too much."""
    timed: bool = True
    """Whether it is a time, so that the unsteadiness of the bare loop's time counts as noise."""
    shared: bool = False
    """Whether it needs the cores, so that the machine's own shortfall counts as noise."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a run says of one aim; `low` and `high` are the least and most of the repeats."""

    aim: Aim
    state: State
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    noise: float = 0.0
    why: str = ""


def spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles; 0 where there is one value."""
    if len(values) < 2:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return (third - first) / 2


def noise(values: Sequence[float], yardstick: Sequence[float], shortfall: Sequence[float] = ()) -> float:
    """By how much the median of `values` may be off in this run.

    `yardstick` are the seconds of the bare loop in the same case, `shortfall` the parts of the ideal efficiency that
    the machine withheld from bare loops in separate processes.
    """
    machine = spread(yardstick) / statistics.median(yardstick) * abs(statistics.median(values)) if yardstick else 0.0
    return max(spread(values), machine) + (max(0.0, statistics.median(shortfall)) if shortfall else 0.0)


def judge(results: Results) -> list[Verdict]:
    """A verdict on every aim."""
    return [judge_one(aim, results) for aim in AIMS]


def judge_one(aim: Aim, results: Results) -> Verdict:
    """Whether one aim is met; a fault of ours in its case, a wrong result included, is a miss."""
    for measurement in results.measurements:
        if measurement.contender == aim.ours and aim.case == _case(measurement) and measurement.fault is not None:
            return Verdict(aim=aim, state="missed", why=measurement.fault)
    values = aim.values(results)
    if not values:
        return Verdict(aim=aim, state="not measured")
    yardstick = list(_seconds(results, "bare", aim.case).values()) if aim.timed and aim.case is not None else []
    off = noise(values, yardstick, _shortfall(results, aim.case) if aim.shared and aim.case is not None else ())
    median = statistics.median(values)

    def keeps(value: float) -> bool:
        if aim.at_least:
            return value >= aim.bound
        return value < aim.bound if aim.below else value <= aim.bound

    state: State = "met" if keeps(median) else "missed"
    if state == "missed" and keeps(median + off if aim.at_least else median - off):
        state = "within noise"
    return Verdict(aim=aim, state=state, median=median, low=min(values), high=max(values), noise=off)


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """1 where an aim is missed by more than the noise, else 0; aims that were not measured do not count."""
    return int(any(verdict.state == "missed" for verdict in verdicts))


def refusal(chosen: Collection[str], left_out: Mapping[str, str], repeats: int) -> str | None:
    """Why a check with these contenders and repeats would mean nothing and what to do about it, or None."""
    frameworks = [contender.name for contender in CONTENDERS.values() if contender.kind == "framework"]
    wanted: list[tuple[str, Iterable[str]]] = [(name, (name,)) for name in YARDSTICKS]
    wanted.append(("one of " + ", ".join(frameworks), frameworks))
    wanted.append(("star", ("star",)))
    problems = []
    for what, names in wanted:
        usable = [name for name in names if name in chosen and name not in left_out]
        if not usable:
            reasons = [left_out[name] for name in names if name in chosen and name in left_out]
            problems.append(f"{what}: {'; '.join(reasons) or 'not among --contenders, add it'}")
    if repeats < LEAST_REPEATS:
        problems.append(f"repeats: {repeats} given, at least {LEAST_REPEATS} are wanted to tell the noise")
    if not problems:
        return None
    return "--check compares with the bare loop, naive anyio, pykka and a framework, and lacks\n  " + "\n  ".join(
        problems
    )


def _case(measurement: Measurement) -> str:
    return from_dict(measurement.workload).case


def _all(results: Results, name: str, case: str) -> dict[int, Measurement]:
    return {m.repeat: m for m in results.measurements if m.contender == name and m.fault is None and _case(m) == case}


def _seconds(results: Results, name: str, case: str) -> dict[int, float]:
    return {repeat: m.seconds for repeat, m in _all(results, name, case).items() if m.seconds is not None}


def _paired(
    left: Mapping[int, float], right: Mapping[int, float], combine: Callable[[float, float], float]
) -> list[float]:
    return [combine(left[repeat], right[repeat]) for repeat in sorted(left.keys() & right.keys())]


def _shortfall(results: Results, case: str) -> list[float]:
    return [1.0 - efficiency for efficiency in _efficiencies(results, "bare_processes", case)]


def _efficiencies(results: Results, name: str, case: str) -> list[float]:
    found = []
    bare = _seconds(results, "bare", case)
    for repeat, measurement in sorted(_all(results, name, case).items()):
        if repeat in bare and measurement.seconds is not None:
            ideal = from_dict(measurement.workload).ideal(bare[repeat], results.cores)
            found.append(ideal / measurement.seconds)
    return found


def _pace(bare_seconds: float, n: int) -> float:
    """By what to multiply a time for what it would be on the quiet machine; at most 1."""
    return min(1.0, (QUIET_NODE * n + QUIET_ROUND) / bare_seconds)


def _paces(results: Results) -> list[float]:
    bare = [m for m in results.measurements if m.contender == "bare" and m.workload["name"] == "W1"]
    return [_pace(m.seconds, m.workload["n"]) for m in bare if m.seconds is not None]


def _more_than_bare(name: str, n: int) -> Callable[[Results], list[float]]:
    case = f"W1 n={n}"

    def values(results: Results) -> list[float]:
        return _paired(
            _seconds(results, name, case),
            _seconds(results, "bare", case),
            lambda ours, bare: (ours - bare) * _pace(bare, n) * 1e6,
        )

    return values


def _ratio_to_bare(name: str, case: str) -> Callable[[Results], list[float]]:
    def values(results: Results) -> list[float]:
        return _paired(_seconds(results, name, case), _seconds(results, "bare", case), lambda ours, bare: ours / bare)

    return values


def _per_node(n: int) -> Callable[[Results], list[float]]:
    case = f"W1 n={n}"

    def values(results: Results) -> list[float]:
        return _paired(
            _seconds(results, "star", case),
            _seconds(results, "bare", case),
            lambda ours, bare: ours / n * _pace(bare, n) * 1e6,
        )

    return values


def _growth(many: int) -> Callable[[Results], list[float]]:
    def values(results: Results) -> list[float]:
        large, small = _per_node(many)(results), _per_node(10)(results)
        return [one / other for one, other in zip(large, small, strict=False)]

    return values


def _efficiency(name: str, case: str) -> Callable[[Results], list[float]]:
    return lambda results: _efficiencies(results, name, case)


def _extra_copies(results: Results) -> list[float]:
    case = "W6 n=1000"
    ours, bare = _all(results, "star", case), _all(results, "bare", case)
    found = []
    for repeat in sorted(ours.keys() & bare.keys()):
        array = from_dict(ours[repeat].workload)
        assert isinstance(array, Broadcast)
        found.append((ours[repeat].memory - bare[repeat].memory) / array.nbytes)
    return found


def _imports(part: str) -> Callable[[Results], list[float]]:
    def values(results: Results) -> list[float]:
        pace = statistics.median(_paces(results) or [1.0])
        return [each.seconds * pace for each in results.imports if each.statement.startswith(part)]

    return values


AIMS: tuple[Aim, ...] = (
    Aim(
        text="W1 n=2: the blocking call, more than the bare loop",
        bound=30,
        unit="µs a round",
        case="W1 n=2",
        values=_more_than_bare("star", 2),
    ),
    Aim(
        text="W1 n=2: awaited on a caller's loop, more than the bare loop",
        bound=150,
        unit="µs a round",
        case="W1 n=2",
        ours="star_awaited",
        values=_more_than_bare("star_awaited", 2),
    ),
    Aim(
        text="W1 n=1000: a node-round",
        bound=3,
        unit="µs",
        case="W1 n=1000",
        values=_per_node(1000),
    ),
    Aim(
        text="W1 n=10000: a node-round",
        bound=5,
        unit="µs",
        case="W1 n=10000",
        values=_per_node(10_000),
    ),
    Aim(
        text="W1 n=10000: resident memory",
        bound=250,
        unit="MB",
        case="W1 n=10000",
        below=True,
        timed=False,
        values=lambda results: [m.peak_rss / 1e6 for m in _all(results, "star", "W1 n=10000").values()],
    ),
    Aim(
        text="W1: a node-round at n=100 over one at n=10 (flat: at most 1.2)",
        bound=1.2,
        unit="x",
        case="W1 n=100",
        values=_growth(100),
    ),
    Aim(
        text="W1: a node-round at n=1000 over one at n=10 (flat: at most 1.2)",
        bound=1.2,
        unit="x",
        case="W1 n=1000",
        values=_growth(1000),
    ),
    Aim(
        text="W2: efficiency, serial time over cores and time taken",
        bound=0.9,
        unit="",
        case="W2 n=8",
        at_least=True,
        shared=True,
        values=_efficiency("star", "W2 n=8"),
    ),
    Aim(
        text="W3: efficiency with worker processes",
        bound=0.9,
        unit="",
        case="W3 n=8",
        ours="star_processes",
        at_least=True,
        shared=True,
        values=_efficiency("star_processes", "W3 n=8"),
    ),
    Aim(
        text="W4: a round",
        bound=0.06,
        unit="s",
        case="W4 n=50",
        values=lambda results: list(_seconds(results, "star", "W4 n=50").values()),
    ),
    Aim(
        text="W5: in process, over the serial loop",
        bound=1.2,
        unit="x",
        case="W5 n=4",
        values=_ratio_to_bare("star", "W5 n=4"),
    ),
    Aim(
        text="W5: to local worker processes, over the serial loop",
        bound=1.5,
        unit="x",
        case="W5 n=4",
        ours="star_processes",
        values=_ratio_to_bare("star_processes", "W5 n=4"),
    ),
    Aim(
        text="W6: extra copies of the array in all",
        bound=2,
        unit="copies",
        case="W6 n=1000",
        below=True,
        timed=False,
        values=_extra_copies,
    ),
    Aim(
        text="import star_actors",
        bound=0.15,
        unit="s",
        below=True,
        values=_imports("import star_actors"),
    ),
    Aim(
        text="from star_actors import StarModelTester and what it needs",
        bound=0.15,
        unit="s",
        below=True,
        values=_imports("from star_actors"),
    ),
    Aim(
        text="heavy packages loaded by importing the tester",
        bound=0,
        unit="packages",
        values=lambda results: [float(len(each.heavy)) for each in results.imports],
    ),
)
"""The aims, in the order of the table."""
