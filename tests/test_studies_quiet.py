"""The quiet runner: whole, silent, on any thread, and failing as the tester does."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from star_actors import NodeError, NotConvergedError, StarAggregator, StarAnalyzer
from star_actors.studies.quiet import run_quietly


class Mean(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        self.flame.flame_log("looking at the data")
        return sum(data) / len(data)


class Where(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return threading.get_ident()


class Stuck(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        while True:
            time.sleep(0.01)


class Average(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return sum(analysis_results) / len(analysis_results)


class First(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return analysis_results[0]


SPLITS = [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize("engine", ["auto", "serial", "threads"])
def test_a_quiet_run_gives_the_report_and_prints_nothing(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    report = run_quietly(SPLITS, Mean, Average, "s3", engine=engine)
    assert report.result == 4.5
    assert capfd.readouterr() == ("", "")


async def test_a_quiet_run_works_inside_a_running_event_loop() -> None:
    assert run_quietly(SPLITS, Mean, Average, "s3").result == 4.5


def test_a_serial_quiet_run_stays_on_the_calling_thread() -> None:
    assert run_quietly(SPLITS, Where, First, "s3", engine="serial").result == threading.get_ident()


def test_a_quiet_run_raises_the_failure_of_a_node() -> None:
    with pytest.raises(NodeError) as caught:
        run_quietly([[1], []], Mean, Average, "s3")
    assert caught.value.node_id == "node_1"


@pytest.mark.parametrize("engine", ["auto", "serial"])
def test_a_quiet_run_over_its_time_ends_though_a_method_is_stuck(engine: str) -> None:
    with pytest.raises(NotConvergedError):
        run_quietly(SPLITS, Stuck, Average, "s3", engine=engine, timeout=0.2)
