"""One measurement: what a contender needed for one workload, and the clock that took it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from .workloads import Workload

__all__ = ["Measurement", "Stopwatch"]


class Measurement(msgspec.Struct, kw_only=True):
    """What one contender needed for one workload, once.

    `seconds` is the mean of the rounds after the warm-up; `first_round` the seconds from the start (of the process,
    where it has one of its own) to the end of round 0, imports and making the data included. `peak_rss` is the most
    resident memory of the measuring process in bytes, `memory` the most that its whole tree of processes held at any
    sampling, shared pages counted once. `fault` says why there is no valid time.
    """

    contender: str
    workload: dict[str, Any]
    seconds: float | None = None
    first_round: float | None = None
    peak_rss: int = 0
    memory: int = 0
    fault: str | None = None
    repeat: int = 0
    began: float = 0.0
    ended: float = 0.0


class Stopwatch:
    """Takes the time at the end of every round; a lap costs about 0.1 µs.

    `began` is a value of `time.perf_counter`, on the platforms of interest one clock for all processes.
    """

    def __init__(self, workload: Workload, began: float | None = None) -> None:
        self.workload = workload
        self.began = time.perf_counter() if began is None else began
        self._laps: list[float] = []
        self._now: Callable[[], float] = time.perf_counter

    def lap(self, aggregate: Any = None) -> None:
        """A round has ended."""
        self._laps.append(self._now())

    def read(self, contender: str, result: Any, *, exact: bool) -> Measurement:
        """The measurement, after the last round, with a fault where the work was not done."""
        workload, laps = self.workload, self._laps
        measurement = Measurement(contender=contender, workload=workload.to_dict(), fault=None)
        if len(laps) != workload.rounds:
            measurement.fault = f"{workload.case}: {workload.rounds} rounds are wanted, {len(laps)} were run"
            return measurement
        measurement.first_round = laps[0] - self.began
        measurement.seconds = (laps[-1] - laps[workload.warmup - 1]) / (workload.rounds - workload.warmup)
        if measurement.seconds < workload.floor:
            measurement.fault = (
                f"{workload.case}: a round took {measurement.seconds:.4f} s, less than the {workload.floor} s "
                "that its work takes"
            )
        else:
            measurement.fault = workload.fault(result, exact=exact)
        return measurement
