"""Round counting, order, isolation, nodes: the contract that an analysis sees."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from analyses import Average, LocalMean, aggregator, analyzer, report_of

from star_actors import ConfigurationError, NodeError, NotConvergedError, StarModelTester
from star_actors.messages import Contribution
from star_actors.rounds import RoundBook, ends_run

ENGINES = ["auto", "serial", "threads"]


def test_contributions_stand_in_the_order_of_the_nodes_whatever_the_order_of_arrival() -> None:
    book = RoundBook(["a", "b", "c"])
    for sender, value in (("c", 3), ("a", 1), ("b", 2)):
        assert book.record([Contribution(sender, 0, value)]) == 1
    assert book.contributions() == [1, 2, 3]


def test_a_contribution_counts_once_and_only_in_its_round() -> None:
    book = RoundBook(["a", "b"])
    assert book.record([Contribution("a", 0, 1), Contribution("a", 0, 2)]) == 1
    assert book.record([Contribution("a", 0, 9), Contribution("b", 1, 9), Contribution("x", 0, 9)]) == 0
    assert book.missing == ["b"]
    assert book.record([Contribution("b", 0, 3)]) == 1
    assert book.contributions() == [1, 3]


@pytest.mark.parametrize(
    ("round", "converged", "simple", "ends"),
    [(0, True, False, False), (1, True, False, True), (3, False, False, False), (0, False, True, True)],
)
def test_a_run_ends_when_converged_but_an_iterative_one_never_in_round_0(
    round: int, converged: bool, simple: bool, ends: bool
) -> None:
    assert ends_run(round, converged, simple_analysis=simple) is ends


@pytest.mark.parametrize("engine", ENGINES)
def test_the_guides_example_ends_at_exactly_5_46875_after_6_rounds(engine: str) -> None:
    report = report_of([[1, 2, 3, 4], [5, 6, 7, 8]], simple_analysis=False, engine=engine)
    assert report.result == 5.46875
    assert [r.number for r in report.rounds] == list(range(6))
    assert report.stop_reason == "converged"


def test_num_iterations_is_the_round_on_every_node() -> None:
    seen: list[tuple[str, int]] = []

    def analyze(self: Any, data: Any, last: Any) -> int:
        seen.append(("analyze", self.num_iterations))
        return 1

    def aggregate(self: Any, results: Any) -> int:
        seen.append(("aggregate", self.num_iterations))
        return len(results)

    def converged(self: Any, result: Any, last: Any) -> bool:
        seen.append(("converged", self.num_iterations))
        return bool(self.num_iterations == 2)

    hub = aggregator(aggregation_method=aggregate, has_converged=converged)
    report_of([1], analyzer(analyze), hub, simple_analysis=False)
    assert seen == [(step, k) for k in range(3) for step in ("analyze", "aggregate", "converged")]


def test_latest_result_on_an_analyzer_is_the_last_aggregate() -> None:
    seen: list[Any] = []

    def analyze(self: Any, data: Any, last: Any) -> Any:
        seen.append((self.latest_result, last))
        return data

    report_of([2.0], analyzer(analyze), simple_analysis=False)
    assert seen[0] == (None, None)
    assert all(latest == last for latest, last in seen)


def test_last_result_is_the_object_that_was_returned_before() -> None:
    returned: list[Any] = []
    same: list[bool] = []

    def aggregate(self: Any, results: Any) -> Any:
        returned.append({"n": self.num_iterations})
        return returned[-1]

    def converged(self: Any, result: Any, last: Any) -> bool:
        same.append(result is returned[-1] and (last is None or last is returned[-2]))
        return bool(self.num_iterations == 2)

    hub = aggregator(aggregation_method=aggregate, has_converged=converged)
    report_of([1, 2], analyzer(lambda self, data, last: 1), hub, simple_analysis=False)
    assert same == [True, True, True]


def test_a_one_round_run_ignores_has_converged_and_notes_where_it_raises() -> None:
    def converged(self: Any, result: Any, last: Any) -> bool:
        raise TypeError("no last result")

    report = report_of([[1.0]], aggregator=aggregator(has_converged=converged))
    assert report.stop_reason == "single round"
    assert [finding.kind for finding in report.findings] == ["convergence-test-raises"]


def test_a_run_that_never_converges_ends_with_a_diagnosis_and_every_round() -> None:
    hub = aggregator(has_converged=lambda self, result, last: False)
    with pytest.raises(NotConvergedError, match="max_iterations=7") as caught:
        report_of([[1.0]], aggregator=hub, simple_analysis=False, max_iterations=7)
    assert caught.value.report is not None
    assert len(caught.value.report.rounds) == 7
    assert caught.value.report.stop_reason == "max_iterations"


@pytest.mark.parametrize("engine", ENGINES)
def test_an_analyzer_that_edits_what_it_gets_changes_nobody_elses_numbers(engine: str) -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        if last is not None:
            last["x"][:] = -1.0
            last["more"].append(self.id)
        data.append(1.0)
        return {"x": np.ones(3) * len(data), "more": []}

    def aggregate(self: Any, results: Any) -> Any:
        assert all(result["more"] == [] for result in results)
        return {"x": sum(result["x"] for result in results), "more": []}

    splits = [[1.0], [2.0], [3.0]]
    hub = aggregator(aggregation_method=aggregate, has_converged=lambda self, r, last: self.num_iterations == 2)
    report = report_of(splits, analyzer(analyze), hub, simple_analysis=False, engine=engine)
    assert splits == [[1.0], [2.0], [3.0]]
    assert [list(r.aggregate["x"]) for r in report.rounds] == [[6.0] * 3, [9.0] * 3, [12.0] * 3]
    assert all(r.aggregate["more"] == [] for r in report.rounds)


def test_kwargs_are_copied_per_node() -> None:
    def init(self: Any, flame: Any, seen: list[str]) -> None:
        LocalMean.__init__(self, flame)
        seen.append(self.id)
        self.seen = seen

    kwargs: dict[str, Any] = {"seen": []}
    probe = analyzer(lambda self, data, last: list(self.seen), __init__=init)
    hub = aggregator(aggregation_method=lambda self, results: results)
    assert report_of([1, 2], probe, hub, analyzer_kwargs=kwargs).result == [["node_0"], ["node_1"]]
    assert kwargs == {"seen": []}


def test_copy_data_false_hands_over_the_callers_own_object() -> None:
    marker = object()
    probe = analyzer(lambda self, data, last: data is marker)
    hub = aggregator(aggregation_method=lambda self, results: results)
    assert report_of([marker], probe, hub, copy_data=False).result == [True]


def test_what_cannot_be_copied_is_refused_before_any_node_starts() -> None:
    import threading

    with pytest.raises(ConfigurationError, match=r"data_splits\[1\].*copy_data=False"):
        report_of([[1.0], threading.Lock()])


def test_ids_roles_and_partners() -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        partners = self.partner_node_ids
        partners.remove(self.flame.get_aggregator_id())
        return self.id, self.role, partners, self.flame.get_participant_ids()

    hub = aggregator(aggregation_method=lambda self, results: [*results, (self.id, self.role, self.partner_node_ids)])
    assert report_of([1, 2], analyzer(analyze), hub).result == [
        ("node_0", "default", ["node_1"], ["node_1", "node_2"]),
        ("node_1", "default", ["node_0"], ["node_0", "node_2"]),
        ("node_2", "aggregator", ["node_0", "node_1"]),
    ]


def test_an_aggregator_that_holds_a_split_sees_it_through_flame() -> None:
    hub = aggregator(aggregation_method=lambda self, results: (self.id, results, self.flame.get_s3_data()))
    probe = analyzer(lambda self, data, last: data)
    report = report_of([10, 20, 30], probe, hub, node_roles=["default", "aggregator", "default"])
    assert report.result == ("node_1", [10, 30], 20)
    assert [node.id for node in report.nodes] == ["node_0", "node_1", "node_2"]


def test_a_seed_makes_the_global_generators_repeat_per_node_and_round() -> None:
    probe = analyzer(lambda self, data, last: (random.random(), float(np.random.rand())))
    hub = aggregator(aggregation_method=lambda self, results: results)

    def draw(seed: int) -> Any:
        return report_of([1, 2], probe, hub, seed=seed).result

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert draw(7)[0] != draw(7)[1]


def test_an_object_that_cannot_be_pickled_fails_at_its_sender_with_the_path() -> None:
    import threading

    probe = analyzer(lambda self, data, last: {"model": [1, threading.Lock()]})
    with pytest.raises(NodeError, match=r'\["model"\]\[1\]') as caught:
        report_of([1], probe)
    assert (caught.value.node_id, caught.value.round) == ("node_0", 0)


def test_an_object_returned_again_in_place_is_a_finding() -> None:
    def aggregate(self: Any, results: Any) -> Any:
        self.kept = getattr(self, "kept", [])
        self.kept.append(sum(results))
        return self.kept

    hub = aggregator(aggregation_method=aggregate, has_converged=lambda self, r, last: self.num_iterations == 2)
    probe = analyzer(lambda self, data, last: 1)
    report = report_of([1, 2], probe, hub, simple_analysis=False)
    assert [finding.kind for finding in report.findings] == ["same-object"]
    assert [r.aggregate for r in report.rounds] == [[2], [2, 2], [2, 2, 2]]


def test_the_history_keeps_scalars_and_the_newest_aggregates_within_its_bound() -> None:
    from star_actors import History

    probe = analyzer(lambda self, data, last: np.zeros(1000))
    hub = aggregator(
        aggregation_method=lambda self, results: results[0],
        has_converged=lambda self, r, last: self.num_iterations == 9,
    )
    report = report_of([1], probe, hub, simple_analysis=False, history=History(max_bytes=30_000))
    kinds = [type(r.aggregate).__name__ for r in report.rounds]
    assert kinds[-1] == "ndarray"
    assert kinds[0] == "Summary"
    assert all(r.seconds > 0 for r in report.rounds)
    assert any("history" in warning for warning in report.warnings)


def test_a_thousand_and_ten_thousand_analyzers_run_in_one_process() -> None:
    for count in (1_000, 10_000):
        report = report_of([[1.0]] * count, simple_analysis=True)
        assert report.result == 1.0
        assert len(report.rounds[0].node_seconds) == count + 1


def test_the_blocking_call_prints_logs_by_round_and_node_and_the_result_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        self.flame.flame_log(f"at {self.id}", log_type="notice")
        self.flame.flame_log("hidden", log_type="debug")
        return 1.0

    StarModelTester([1, 2], analyzer(analyze), Average, "s3", stream_log_level=25)
    assert capsys.readouterr().out.splitlines() == [
        "--- Starting Iteration 0 ---",
        "Logs for Analyzer node_0:",
        "at node_0",
        "Logs for Analyzer node_1:",
        "at node_1",
        "--- Ending Iteration 0 ---",
        "",
        "Final result: 1.0",
    ]
