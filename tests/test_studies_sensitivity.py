"""check_sensitivity: it finds the record that moves the result furthest, and refutes what is declared too small."""

from __future__ import annotations

import math
import random
import threading
from typing import Any

import pytest

from star_actors import (
    ConfigurationError,
    NodeError,
    Privacy,
    PrivacyError,
    StarAggregator,
    StarAnalyzer,
    check_sensitivity,
)


class Rows(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return sum(data)


class LocalMean(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return sum(data) / len(data)


class Twice(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return [3.0 * sum(data), 4.0 * sum(data)]


class Values(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return list(data)


class Drawn(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return random.random()


class Spoils(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        total = sum(data)
        data.clear()
        return total


class Total(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return sum(analysis_results)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return True


class Columns(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return [sum(column) for column in zip(*analysis_results, strict=True)]


class All(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return [value for values in analysis_results for value in values]


class Words(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return "some"


SPLITS = [[1.0, 2.0], [3.0, 40.0, 5.0]]


def test_the_largest_change_of_a_sum_is_its_largest_record() -> None:
    found = check_sensitivity(SPLITS, Rows, Total, "s3")
    assert found.largest is not None
    assert (found.largest.node_id, found.largest.record, found.largest.size) == ("node_1", 1, 40.0)
    assert found.checked == found.total == 5


@pytest.mark.parametrize(("declared", "refuted"), [(39.9, True), (40.0, False), (1000.0, False)])
def test_a_sensitivity_is_refuted_where_it_is_too_small(declared: float, refuted: bool) -> None:
    found = check_sensitivity(SPLITS, Rows, Total, "s3", sensitivity=declared)
    assert found.refuted is refuted
    assert ("REFUTED" in str(found)) is refuted


def test_rounding_of_large_sums_refutes_nothing() -> None:
    data = [[1e9 + 0.1 * i for i in range(50)], [1.0]]
    assert not check_sensitivity(data, Rows, Total, "s3", sensitivity=1e9 + 4.9).refuted


def test_candidates_take_the_place_of_every_record() -> None:
    found = check_sensitivity(SPLITS, Rows, Total, "s3", candidates=[0.0, 100.0], sensitivity=98)
    assert found.total == 10
    assert found.largest is not None
    assert (found.largest.node_id, found.largest.record, found.largest.candidate) == ("node_0", 0, 1)
    assert found.largest.size == 99
    assert found.refuted


@pytest.mark.parametrize(
    ("arguments", "norm", "size"),
    [
        ({}, 1, 280.0),
        ({"delta": 1e-6}, 2, 200.0),
        ({"sensitivity": 1.0, "delta": 1e-6}, 2, 200.0),
        ({"privacy": Privacy(epsilon=1, sensitivity=1, delta=1e-6)}, 2, 200.0),
    ],
)
def test_the_norm_is_l1_and_with_delta_l2(arguments: dict[str, Any], norm: int, size: float) -> None:
    found = check_sensitivity(SPLITS, Twice, Columns, "s3", **arguments)
    assert found.norm == norm
    assert found.largest is not None
    assert found.largest.size == size


def test_each_of_multiple_results_is_noised_and_measured_on_its_own() -> None:
    found = check_sensitivity(SPLITS, Twice, Columns, "s3", multiple_results=True)
    assert found.largest is not None
    assert found.largest.size == 160.0


def test_another_layout_is_an_infinite_change() -> None:
    found = check_sensitivity(SPLITS, Values, All, "s3", sensitivity=1e6)
    assert found.largest is not None
    assert found.largest.size == math.inf
    assert found.refuted


def test_large_data_are_sampled_the_same_way_each_time() -> None:
    data = [[float(i) for i in range(500)], [float(i) for i in range(500)]]
    first, again, other = (
        check_sensitivity(data, Rows, Total, "s3", sample=20, sample_seed=seed).largest for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_sample_says_how_many_of_how_many_it_saw() -> None:
    found = check_sensitivity(SPLITS, Rows, Total, "s3", sample=2)
    assert (found.checked, found.total) == (2, 5)
    assert "2 of 5 neighbours" in str(found)


def test_a_neighbour_that_fails_is_told_and_the_others_are_measured() -> None:
    found = check_sensitivity([[1.0, 5.0], [7.0]], LocalMean, Total, "s3")
    (failure,) = found.failures
    assert (failure.node_id, failure.record, failure.error) == ("node_1", 0, "ZeroDivisionError")
    assert found.largest is not None
    assert found.largest.size == 2.0


def test_contributions_are_looked_at_where_they_are_noised_and_clipped_as_there() -> None:
    privacy = Privacy(epsilon=1, sensitivity=4, clip=10, noise_at="analyzer")
    found = check_sensitivity(SPLITS, Rows, Total, "s3", privacy=privacy)
    assert found.what == "the contributions"
    assert found.largest is not None
    assert found.largest.size == pytest.approx(2.0)  # 3 clipped to nothing, 1 + 2 left


def test_clipping_bounds_the_change_of_a_final_result() -> None:
    privacy = Privacy(epsilon=1, sensitivity=10, clip=5)
    found = check_sensitivity(SPLITS, Rows, Total, "s3", privacy=privacy, candidates=[-1e9, 1e9])
    assert not found.refuted
    assert found.largest is not None
    assert found.largest.size == pytest.approx(10.0)


def test_the_first_aggregate_is_looked_at_where_it_is_broadcast() -> None:
    privacy = Privacy(epsilon=1, sensitivity=1, noise_at="broadcast")
    found = check_sensitivity(SPLITS, Rows, Total, "s3", simple_analysis=False, privacy=privacy)
    assert found.what == "the aggregate of the first round"
    assert found.refuted


def test_an_analysis_that_edits_its_data_spoils_no_neighbour() -> None:
    found = check_sensitivity(SPLITS, Spoils, Total, "s3")
    assert found.largest is not None
    assert found.largest.size == 40.0


def test_an_analysis_that_draws_is_refused_without_a_seed_and_checked_with_one() -> None:
    with pytest.raises(ConfigurationError, match="seed="):
        check_sensitivity(SPLITS, Drawn, Total, "s3")
    found = check_sensitivity(SPLITS, Drawn, Total, "s3", seed=3)
    assert found.largest is not None
    assert found.largest.size == 0


def test_a_small_analysis_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []
    begin = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        started.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    check_sensitivity(SPLITS, Rows, Total, "s3")
    assert started == []


def test_progress_is_told_after_each_neighbour() -> None:
    steps: list[tuple[int, int]] = []
    check_sensitivity(SPLITS, Rows, Total, "s3", progress=lambda done, total: steps.append((done, total)))
    assert steps == [(i, 5) for i in range(1, 6)]


async def test_it_works_inside_a_running_event_loop_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert check_sensitivity(SPLITS, Rows, Total, "s3", sensitivity=1).refuted
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sensitivity": 1, "privacy": Privacy(epsilon=1, sensitivity=1)}, "both given"),
        ({"sensitivity": -1}, "sensitivity=-1"),
        ({"delta": 2}, "delta=2"),
        ({"sample": 0}, "sample=0"),
        ({"candidates": []}, "candidates"),
    ],
)
def test_arguments_that_say_nothing_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_sensitivity(SPLITS, Rows, Total, "s3", **arguments)


def test_data_without_records_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"data_splits\[1\] cannot be taken apart"):
        check_sensitivity([[1.0], 5], Values, All, "s3", sensitivity=1)
    with pytest.raises(ConfigurationError, match="no split holds a record"):
        check_sensitivity([[], None], Rows, Total, "s3")


def test_a_result_that_is_no_number_is_refused() -> None:
    with pytest.raises(PrivacyError, match="type str"):
        check_sensitivity(SPLITS, Rows, Words, "s3")


def test_a_failure_on_the_whole_data_rises() -> None:
    with pytest.raises(NodeError):
        check_sensitivity([[], [1.0]], LocalMean, Total, "s3")
