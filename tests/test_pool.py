"""Where calls run: at home while they are brisk, beside each other once they are slow, and only then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest
from analyses import aggregator, analyzer, report_of

from star_actors.engines import pool as pool_module
from star_actors.engines.pool import SLOW, Pool


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


class Nodes:
    """A pool with lanes that have taken some nodes, each with its measured seconds; one node is still to be taken."""

    def __init__(self, pool: Pool, *lanes: list[float]) -> None:
        self.pool = pool
        self.next: Any = SimpleNamespace(seat=object())
        pool._costs = {}
        for costs in lanes:
            seats = [object() for _ in costs]
            pool._costs.update(zip(seats, costs, strict=True))  # type: ignore[arg-type]
            lane: Any = SimpleNamespace(seats=seats, current=object(), started=perf_counter(), idle=False)
            pool.lanes.append(lane)

    def leaves(self, lane: int, cost: float | None) -> bool:
        if cost is not None:
            self.pool._costs[self.next.seat] = cost
        return self.pool._leaves(self.pool.lanes[lane], self.next)


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(
        max_threads=8, spread=False, home=None, done=lambda call: None, moved=lambda: None, failed=lambda error: None
    )
    yield made
    made.lanes.clear()
    made.stop(1.0)


def test_a_lane_leaves_a_node_to_the_one_that_has_less_to_do(pool: Pool) -> None:
    nodes = Nodes(pool, [0.02, 0.03, 0.025], [0.02, 0.02, 0.02, 0.021])
    assert nodes.leaves(1, 0.02)
    assert not nodes.leaves(0, 0.02)


def test_lanes_with_as_much_to_do_take_what_comes(pool: Pool) -> None:
    nodes = Nodes(pool, [0.02, 0.03], [0.03, 0.02])
    assert not nodes.leaves(0, 0.02)
    assert not nodes.leaves(1, 0.02)


def test_a_node_that_takes_long_weighs_more(pool: Pool) -> None:
    nodes = Nodes(pool, [0.2], [0.02, 0.02, 0.02, 0.02])
    assert not nodes.leaves(1, 0.02)


def test_nothing_is_left_to_a_lane_that_is_held_up_nor_before_anything_is_known(pool: Pool) -> None:
    nodes = Nodes(pool, [0.02], [0.02, 0.02, 0.02])
    assert not nodes.leaves(1, None)
    assert nodes.leaves(1, 0.02)
    pool.lanes[0].started -= 1.0
    assert not nodes.leaves(1, 0.02)


def test_of_very_many_nodes_first_come_is_good_enough(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(pool, [0.02], [0.02, 0.02, 0.02])
    monkeypatch.setattr(pool_module, "BALANCED", 3)
    assert not nodes.leaves(1, 0.02)
