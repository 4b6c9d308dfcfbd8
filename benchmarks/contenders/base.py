"""What a contender is."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from benchmarks.measurement import Measurement, Stopwatch
from benchmarks.memory import high_water
from benchmarks.workloads import Workload

__all__ = ["Contender", "Kind"]

Kind = Literal["yardstick", "actors", "framework", "ours"]


class Contender(ABC):
    """One way to drive the nodes of a workload.

    `exact` says that it sums in node order, so that its result must equal the bare loop's bit for bit. `heavy` ones
    start slowly and `sequential` ones sleep through W4 node after node; both are measured fewer times. `needs` is the
    module that it drives, `install` what pip calls it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[Kind]
    needs: ClassVar[str | None] = None
    install: ClassVar[str] = ""
    exact: ClassVar[bool] = True
    heavy: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    environment: ClassVar[Mapping[str, str]] = {}

    def available(self) -> str | None:
        """Why it cannot run here and what to install, or None."""
        if self.needs is None or importlib.util.find_spec(self.needs) is not None:
            return None
        return f"{self.title} is not installed: pip install '{self.install}'"

    def unfit(self, workload: Workload) -> str | None:
        """Why it is not measured on this workload, or None."""
        return None

    def rounds(self, workload: Workload) -> int:
        """How many rounds it is given, where it is too slow for the workload's own number."""
        return workload.rounds

    def seldom(self, workload: Workload) -> bool:
        """Whether it takes so long that it is measured fewer times."""
        return self.heavy or (self.sequential and workload.name == "W4")

    def sized(self, workload: Workload) -> Workload:
        """The workload with as many rounds as this contender is given."""
        rounds = min(workload.rounds, max(2, self.rounds(workload)))
        return workload if rounds == workload.rounds else replace(workload, rounds=rounds, warmup=max(1, rounds // 5))

    @abstractmethod
    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        """Run the rounds, with a lap at the end of each; return the last aggregate."""

    def run(
        self, workload: Workload, began: float | None = None, ran: Callable[[], object] | None = None
    ) -> Measurement:
        """Measure one workload in this process; `ran` is called once the rounds are over, before the check."""
        stopwatch = Stopwatch(workload, began)
        result = self.drive(workload, stopwatch)
        peak_rss = high_water()
        if ran is not None:
            ran()
        measurement = stopwatch.read(self.name, result, exact=self.exact)
        measurement.peak_rss = peak_rss
        return measurement
