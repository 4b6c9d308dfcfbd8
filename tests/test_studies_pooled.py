"""compare_pooled: the federated numbers beside those of all rows at one node."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from star_actors import (
    AsyncStarModelTester,
    ConfigurationError,
    NodeError,
    Privacy,
    StarAggregator,
    StarAnalyzer,
    compare_pooled,
)


class Moments(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return sum(data), len(data)


class Mean(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        total, n = (sum(part) for part in zip(*analysis_results, strict=True))
        return {"mean": total / n, "n": n}


class LocalMean(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return sum(data) / len(data)


class MeanOfMeans(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return sum(analysis_results) / len(analysis_results)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return bool(self.num_iterations >= 2)


class Gather(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return list(analysis_results)


class Whole(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return data


class Drawn(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return random.random()


class Sites(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return {f"site {i}": value for i, value in enumerate(analysis_results)}


class Words(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return "mean: 4"


class OwnData(StarAggregator):
    def __init__(self, flame: Any) -> None:
        super().__init__(flame)
        self.own: Any = None

    def aggregation_method(self, analysis_results: Any) -> Any:
        return sum(analysis_results), self.flame.get_role() == "aggregator"


UNEQUAL = [[1, 2, 3, 4], [5, 6, 7]]


def test_an_exact_aggregation_equals_the_pooled_one() -> None:
    found = compare_pooled(UNEQUAL, Moments, Mean, "s3")
    assert [(d.path, d.federated, d.pooled) for d in found.differences] == [("mean", 4.0, 4.0), ("n", 7.0, 7.0)]
    assert found.equal()
    assert found.max_relative == 0


def test_a_mean_of_means_over_unequal_sites_differs() -> None:
    found = compare_pooled(UNEQUAL, LocalMean, MeanOfMeans, "s3")
    (difference,) = found.differences
    assert (difference.federated, difference.pooled, difference.absolute) == (4.25, 4.0, 0.25)
    assert found.max_relative == difference.relative == 0.0625
    assert not found.equal()


@pytest.mark.parametrize(("rtol", "atol", "equal"), [(0.07, 0.0, True), (0.06, 0.0, False), (0.0, 0.25, True)])
def test_tolerances_decide_what_is_equal(rtol: float, atol: float, equal: bool) -> None:
    assert compare_pooled(UNEQUAL, LocalMean, MeanOfMeans, "s3", rtol=rtol, atol=atol).equal() is equal
    assert compare_pooled(UNEQUAL, LocalMean, MeanOfMeans, "s3").equal(rtol, atol) is equal


def test_the_tables_say_path_and_verdict() -> None:
    found = compare_pooled(UNEQUAL, Moments, Mean, "s3")
    assert "equal" in str(found)
    assert "mean" in str(found)
    assert "<td>mean</td>" in found._repr_html_()
    assert "DIFFERENT" in str(compare_pooled(UNEQUAL, LocalMean, MeanOfMeans, "s3"))


def test_iterative_analyses_are_compared_at_their_ends() -> None:
    found = compare_pooled(UNEQUAL, LocalMean, MeanOfMeans, "s3", simple_analysis=False)
    assert len(found.federated.rounds) == len(found.pooled.rounds) == 3


def test_numbers_that_one_result_alone_has_are_named() -> None:
    found = compare_pooled(UNEQUAL, LocalMean, Sites, "s3")
    assert found.only_federated == ("['site 1']",)
    assert not found.equal(rtol=1.0)


def test_many_numbers_are_shown_from_the_largest_difference_on() -> None:
    found = compare_pooled([np.arange(100.0), np.arange(100.0)], Whole, MeanOfMeans, "s3", pool=lambda s: s[0] + 1)
    assert len(found.differences) == 100
    assert "[0]" in str(found).splitlines()[2]
    assert "30 largest of 100" in str(found)


def test_nan_on_both_sides_is_no_difference_and_on_one_side_is() -> None:
    both = compare_pooled([[math.nan], [1.0]], LocalMean, MeanOfMeans, "s3")
    assert both.equal()
    one = compare_pooled([[math.nan], [1.0]], LocalMean, MeanOfMeans, "s3", pool=lambda splits: [1.0])
    assert not one.equal()
    assert math.isnan(one.max_relative)


def test_a_pooled_zero_makes_an_infinite_relative_difference() -> None:
    found = compare_pooled([[1], [1]], LocalMean, MeanOfMeans, "s3", pool=lambda splits: [0])
    assert found.max_relative == math.inf


def test_the_aggregator_keeps_a_split_of_its_own() -> None:
    found = compare_pooled(
        [[1, 2], [100], [3]], LocalMean, OwnData, "s3", node_roles=["default", "aggregator", "default"]
    )
    assert [node.has_data for node in found.pooled.nodes] == [True, True]
    assert found.pooled.result == (2.0, True)


def test_the_run_takes_the_testers_other_arguments() -> None:
    found = compare_pooled([[1], [2]], Drawn, Gather, "s3", seed=7, engine="serial")
    assert found.differences[0].absolute == 0


def test_flame_files_are_pooled() -> None:
    class Ages(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            ages = [int(line) for line in data[0]["ages.csv"].decode().split()[1:]]
            return sum(ages), len(ages)

    found = compare_pooled([[{"ages.csv": b"age\n40\n50\n"}], [{"ages.csv": b"age\n70"}]], Ages, Mean, "s3")
    assert found.equal()
    assert found.pooled.result["n"] == 3


async def test_it_works_inside_a_running_event_loop_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert compare_pooled(UNEQUAL, Moments, Mean, "s3").equal()
    assert (await AsyncStarModelTester(UNEQUAL, Moments, Mean, "s3")).result["n"] == 7
    assert capfd.readouterr() == ("", "")


def test_no_file_is_written(tmp_path: Any) -> None:
    compare_pooled(UNEQUAL, Moments, Mean, "s3", result_filepath=tmp_path / "out.txt")
    assert list(tmp_path.iterdir()) == []


def test_privacy_is_refused_unless_it_is_a_rehearsal() -> None:
    with pytest.raises(ConfigurationError, match="rehearsal"):
        compare_pooled(UNEQUAL, Moments, Mean, "s3", epsilon=1, sensitivity=1)
    rehearsal = Privacy(epsilon=1, sensitivity=1, keep_exact=True)
    assert compare_pooled(UNEQUAL, Moments, Mean, "s3", privacy=rehearsal).equal()


def test_clipping_stays_on_in_a_rehearsal() -> None:
    clipped = Privacy(epsilon=1, sensitivity=1, clip=2, keep_exact=True)
    (difference,) = compare_pooled(UNEQUAL, LocalMean, MeanOfMeans, "s3", privacy=clipped).differences
    assert difference.federated == pytest.approx(2, abs=1e-9)


def test_a_result_without_a_number_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="type str and holds no number"):
        compare_pooled(UNEQUAL, Moments, Words, "s3")


@pytest.mark.parametrize("name", ["rtol", "atol"])
@pytest.mark.parametrize("given", [-1, math.inf, "small"])
def test_tolerances_that_are_none_are_refused(name: str, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        compare_pooled(UNEQUAL, Moments, Mean, "s3", **{name: given})


def test_a_failing_node_fails_the_comparison() -> None:
    with pytest.raises(NodeError):
        compare_pooled([[], [1]], LocalMean, MeanOfMeans, "s3")
