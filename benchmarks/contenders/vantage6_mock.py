"""vantage6's mock client: a task per round for all organizations, run one after the other in this process."""

from __future__ import annotations

import functools
import importlib
import json
from typing import Any

from benchmarks.measurement import Stopwatch
from benchmarks.workloads import Workload, from_dict

from .base import Contender

__all__ = ["Vantage6"]


class Vantage6(Contender):
    """Its mock copies the whole client, all earlier results included, for every node of every round."""

    name = "vantage6"
    title = "vantage6's mock"
    kind = "framework"
    needs = "vantage6.algorithm.tools"
    heavy = True
    sequential = True
    install = "vantage6-algorithm-tools>=4.12"

    def available(self) -> str | None:
        try:
            return super().available()
        except ModuleNotFoundError:
            return f"{self.title} is not installed: pip install '{self.install}'"

    def unfit(self, workload: Workload) -> str | None:
        if workload.name in ("W2", "W5", "W6"):
            return "its mock passes JSON only, no arrays"
        return "a round takes minutes, and more every round" if workload.n > 100 else None

    def rounds(self, workload: Workload) -> int:
        return 2 if workload.name == "W4" else 4 if workload.n >= 50 else 40

    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        pandas: Any = importlib.import_module("pandas")
        mock = importlib.import_module("vantage6.algorithm.tools.mock_client").MockAlgorithmClient
        data = [[{"database": pandas.DataFrame({"value": split})}] for split in map(_rows, workload.splits())]
        client = mock(datasets=data, module=__name__)
        organizations = [organization["id"] for organization in client.organization.list()]
        plain, aggregate = workload.to_dict(), None
        for _ in range(workload.rounds):
            task = client.task.create(
                input_={"method": "analyze", "kwargs": {"workload": plain, "aggregate": aggregate}},
                organizations=organizations,
            )
            results = client.wait_for_results(task_id=task["id"])
            aggregate = workload.combine([result["value"] for result in results])
            stopwatch.lap(aggregate)
        return aggregate


def _rows(split: Any) -> list[Any]:
    return split if isinstance(split, list) else [split]


@functools.cache
def _workload(plain: str) -> Workload:
    return from_dict(json.loads(plain))


def _analyze(frame: Any, workload: dict[str, Any], aggregate: Any) -> dict[str, Any]:
    rows = frame["value"].tolist()
    split = rows if len(rows) > 1 else rows[0]
    return {"value": _workload(json.dumps(workload)).analyze(split, aggregate)}


def __getattr__(name: str) -> Any:
    # The mock looks the method up in its module by name; it is decorated on that first use, so that this module can
    # be imported where vantage6 is not installed.
    if name != "analyze":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    decorated = importlib.import_module("vantage6.algorithm.tools.decorators").data(1)(_analyze)
    globals()["analyze"] = decorated
    return decorated
