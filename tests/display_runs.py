"""Runs and reports that the tests of the display share."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

from star_actors import AsyncStarModelTester, Report, Round, StarAggregator, StarAnalyzer
from star_actors.report import Log, NodeInfo, Record, StopReason

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b[31m\x00"


class Halfway(StarAnalyzer):
    """The guide's analyzer: goes halfway to the last aggregate, and logs."""

    def analysis_method(self, data: list[float], aggregator_results: float | None) -> float:
        mean = sum(data) / len(data)
        self.flame.flame_log(f"local mean {mean} in round {self.num_iterations}", log_type="debug")
        if self.num_iterations == 2:
            self.flame.flame_log(HOSTILE, log_type="warn")
        return mean if aggregator_results is None else (mean + aggregator_results) / 2 + 0.5


class Mean(StarAggregator):
    """The guide's aggregator, with a convergence test of its own."""

    def aggregation_method(self, analysis_results: list[float]) -> float:
        result = sum(analysis_results) / len(analysis_results)
        self.flame.flame_log(f"mean of all {result}", log_type="notice")
        return result

    def has_converged(self, result: float, last_result: float | None) -> bool:
        return last_result is not None and abs(result - last_result) < 0.001


SPLITS = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
TELLING = [[7654321.0], [7654325.0]]
"""Splits whose every exact aggregate begins with 765432: six digits that no time, size or noise has by chance."""


async def halfway_report(**options: Any) -> Report:
    """The report of a small run that converges after 11 rounds."""
    arguments: dict[str, Any] = {"data_splits": SPLITS, "analyzer": Halfway, "aggregator": Mean, "data_type": "s3"}
    return await AsyncStarModelTester(**{**arguments, "simple_analysis": False, **options})


def report_of(aggregates: Sequence[Any], stop_reason: StopReason = "converged", **fields: Any) -> Report:
    """A report with these aggregates, of one analyzer and the aggregator."""
    times = {"node_0": 0.002, "node_1": 0.001}
    rounds = [Round(i, aggregate, 0.003, times, 100, 50) for i, aggregate in enumerate(aggregates)]
    nodes = [NodeInfo("node_0", "default"), NodeInfo("node_1", "aggregator", has_data=False)]
    fields = {"rounds": rounds, "nodes": nodes, "stop_reason": stop_reason, "seconds": 0.1, **fields}
    return Report(**fields)


def long_report(rounds: int, nodes: int, log_lines: int = 0) -> Report:
    """A report of many rounds of many nodes; node_3 is the straggler."""
    infos = [NodeInfo(f"node_{i}", "default") for i in range(nodes)]
    infos.append(NodeInfo(f"node_{nodes}", "aggregator", has_data=False))
    record = Record(infos, 256 << 20, withhold=False)
    seconds = array("d", [0.001 + 0.000001 * i for i in range(nodes + 1)])
    seconds[3] = 0.05
    for i in range(rounds):
        record.finish_round([math.exp(-i / (1 + rounds / 30))], 30, 0.06, seconds, 1000 + i, 2000)
    for i in range(log_lines):
        record.log(Log(f"node_{i % nodes}", "default", i % rounds, "info", f"line {i}"))
    record.stop_reason = "converged"
    return record.report()
