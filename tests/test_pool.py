"""Where calls run: at home while they are brisk, beside each other once they are slow, and only then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from analyses import aggregator, analyzer, report_of

from star_actors.engines.pool import SLOW


def slow_in(rounds: Callable[[int], bool]) -> Any:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        if rounds(self.num_iterations):
            threading.Event().wait(3 * SLOW)
        return 1.0

    return analyzer(analyze)


LONG = aggregator(has_converged=lambda self, result, last: self.num_iterations == 20)


def ran_on(rounds: Callable[[int], bool]) -> list[str]:
    return [node.ran_on for node in report_of([1], slow_in(rounds), LONG, simple_analysis=False).nodes]


def test_slow_calls_with_brisk_ones_in_between_move_no_node() -> None:
    assert ran_on(lambda number: number % 5 == 4) == ["run thread", "run thread"]


def test_two_slow_calls_on_end_move_the_node_and_the_report_says_when() -> None:
    assert ran_on(lambda number: number in (4, 5)) == ["worker thread", "run thread"]


def test_a_call_that_blocks_holds_nobody_up() -> None:
    together = threading.Barrier(20)

    def analyze(self: Any, data: Any, last: Any) -> Any:
        together.wait(60)  # nobody passes before everybody is there
        return 1.0

    report = report_of([1] * 20, analyzer(analyze))
    assert report.result == 1.0
    assert [node.ran_on for node in report.nodes].count("worker thread") == 19


def test_a_cap_on_threads_is_reported_and_no_deadlock() -> None:
    from star_actors import Threads

    report = report_of([1] * 5, slow_in(lambda number: True), engine=Threads(max_threads=2))
    assert report.result == 1.0
    assert any("max_threads" in warning for warning in report.warnings)


@pytest.mark.parametrize("engine", ["auto", "threads"])
def test_a_node_stays_on_one_thread_or_moves_once(engine: str) -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        self.threads = [*getattr(self, "threads", []), threading.get_ident()]
        threading.Event().wait(2 * SLOW)
        moves = sum(a != b for a, b in zip(self.threads, self.threads[1:], strict=False))
        return moves if self.num_iterations < 20 else (moves, len(self.threads))

    hub = aggregator(
        aggregation_method=lambda self, results: results,
        has_converged=lambda self, result, last: self.num_iterations == 20,
    )
    report = report_of([1, 2, 3], analyzer(analyze), hub, simple_analysis=False, engine=engine)
    assert all(moves <= (1 if engine == "auto" else 0) and calls == 21 for moves, calls in report.result)
