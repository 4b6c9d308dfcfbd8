"""privacy_sweep: the measured error follows the noise that was asked for.

Each statistical test fails by chance with probability ALPHA at most; there are ten of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import gamma

from star_actors import ConfigurationError, Privacy, PrivacyError, StarAggregator, StarAnalyzer, privacy_sweep
from star_actors.release.noise import mechanism_for
from star_actors.studies.sweep import _expected

ALPHA = 1e-6
SPLITS = [[1.0, 2.0], [3.0, 4.0]]


class Rows(StarAnalyzer):
    calls = 0

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        type(self).calls += 1
        return sum(data)


class Total(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return sum(analysis_results)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return bool(self.num_iterations >= 1)


class Four(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return {"sums": np.array([sum(analysis_results)] * 3), "n": 4.0}


class Pair(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return [sum(analysis_results), 1.0]


class Counted(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return int(sum(analysis_results))


class Steady(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return sum(analysis_results)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return bool(result == last_result)


class Words(StarAggregator):
    def aggregation_method(self, analysis_results: Any) -> Any:
        return "some"


def laplace_bounds(scale: float, draws: int) -> tuple[float, float]:
    """Where the mean size of `draws` Laplace draws lies: their sum is of a gamma distribution."""
    low, high = gamma.ppf([ALPHA / 2, 1 - ALPHA / 2], draws)
    return scale * low / draws, scale * high / draws


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0])
def test_the_error_of_a_number_is_that_of_laplace_noise(epsilon: float) -> None:
    (row,) = privacy_sweep(SPLITS, Rows, Total, "s3", epsilons=[epsilon], sensitivity=2, repeats=2000).rows
    low, high = laplace_bounds(2 / epsilon, 2000)
    assert low < row.mean < high
    assert row.expected == pytest.approx(2 / epsilon)


def test_each_number_of_a_nested_result_has_that_error() -> None:
    sweep = privacy_sweep(SPLITS, Rows, Four, "s3", epsilons=[1], sensitivity=1, repeats=500)
    low, high = laplace_bounds(1, 4 * 500)
    assert low < sweep.rows[0].mean < high
    assert sweep.numbers == 4


def test_each_of_multiple_results_has_that_error() -> None:
    sweep = privacy_sweep(SPLITS, Rows, Pair, "s3", epsilons=[1], sensitivity=1, repeats=500, multiple_results=True)
    low, high = laplace_bounds(1, 2 * 500)
    assert low < sweep.rows[0].mean < high


def test_a_noised_broadcast_has_that_error() -> None:
    privacy = Privacy(epsilon=1, sensitivity=1, noise_at="broadcast", budget=0.5)
    (row,) = privacy_sweep(SPLITS, Rows, Total, "s3", epsilons=[2], privacy=privacy, repeats=100).rows
    low, high = laplace_bounds(0.5, 100)
    assert low < row.mean < high
    assert row.expected == 0.5


def test_noised_contributions_add_up_to_more_than_the_noise_of_one() -> None:
    privacy = Privacy(epsilon=1, sensitivity=1, noise_at="analyzer")
    (row,) = privacy_sweep(SPLITS, Rows, Total, "s3", epsilons=[1], privacy=privacy, repeats=300).rows
    # Of the sum of two: mean 1.5, variance 4 - 2.25; a normal band, widened by Berry and Esseen's tail to 6 sigma.
    assert abs(row.mean - 1.5) < 6 * math.sqrt(1.75 / 300)
    assert row.expected is None


@pytest.mark.parametrize("epsilon", [0.5, 3.0])
@pytest.mark.parametrize("delta", [None, 1e-6])
def test_the_curve_of_integer_noise_is_the_mean_of_that_noise(epsilon: float, delta: float | None) -> None:
    plan = Privacy(epsilon=epsilon, sensitivity=1, delta=delta, integers="discrete")
    mechanism = mechanism_for(plan)
    k = np.arange(1, 2000)
    weight = np.exp(-k / mechanism.scale) if delta is None else np.exp(-0.5 * (k / mechanism.scale) ** 2)
    assert _expected(mechanism, True) == pytest.approx(2 * (k * weight).sum() / (1 + 2 * weight.sum()))


def test_integers_get_integer_noise_where_that_is_asked_for() -> None:
    privacy = Privacy(epsilon=1, sensitivity=1, integers="discrete")
    (row,) = privacy_sweep(SPLITS, Rows, Counted, "s3", epsilons=[1], privacy=privacy, repeats=400).rows
    expected = 1 / math.sinh(1)
    assert row.expected == pytest.approx(expected)
    # Second moment of discrete Laplace noise of scale 1: 1 / (2 sinh(1/2)^2).
    spread = math.sqrt(0.5 / math.sinh(0.5) ** 2 - expected**2)
    assert abs(row.mean - expected) < 6 * spread / math.sqrt(400)
    assert row.mean * 400 == pytest.approx(round(row.mean * 400))


def test_gaussian_noise_has_the_curve_of_its_scale() -> None:
    (row,) = privacy_sweep(SPLITS, Rows, Total, "s3", epsilons=[1], sensitivity=1, delta=1e-6, repeats=400).rows
    expected = row.scale * math.sqrt(2 / math.pi)
    assert row.expected == pytest.approx(expected)
    assert abs(row.mean - expected) < 6 * row.scale * math.sqrt((1 - 2 / math.pi) / 400)


def test_the_bias_of_clipping_is_in_the_error() -> None:
    privacy = Privacy(epsilon=1e6, sensitivity=1, clip=2)
    (row,) = privacy_sweep(SPLITS, Rows, Total, "s3", epsilons=[1e6], privacy=privacy, repeats=20).rows
    assert row.mean == pytest.approx(10 - 4, abs=0.01)


def test_with_noise_at_the_end_the_analysis_runs_once() -> None:
    Rows.calls = 0
    privacy_sweep(SPLITS, Rows, Total, "s3", epsilons=[0.1, 1, 10], sensitivity=1, repeats=50)
    assert Rows.calls == len(SPLITS)


def test_with_noise_elsewhere_every_repeat_is_a_run() -> None:
    Rows.calls = 0
    privacy = Privacy(epsilon=1, sensitivity=1, noise_at="broadcast")
    privacy_sweep(SPLITS, Rows, Total, "s3", epsilons=[1, 10], privacy=privacy, repeats=5)
    assert Rows.calls == len(SPLITS) * (1 + 2 * 5)


def test_runs_that_do_not_converge_under_noise_are_counted() -> None:
    privacy = Privacy(epsilon=1, sensitivity=1, noise_at="broadcast")
    sweep = privacy_sweep(
        SPLITS, Rows, Steady, "s3", None, False, epsilons=[1], privacy=privacy, repeats=3, max_iterations=4
    )
    assert (sweep.rows[0].failed, sweep.rows[0].repeats) == (3, 0)
    assert "3 runs did not end in a result" in str(sweep)
    with pytest.raises(ConfigurationError, match="nothing to plot"):
        sweep.plot()


def test_the_tables_have_a_row_for_each_epsilon() -> None:
    sweep = privacy_sweep(SPLITS, Rows, Total, "s3", epsilons=[0.5, 2], sensitivity=1, repeats=5)
    lines = str(sweep).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["0.5", "2"]
    assert "<td>0.5</td>" in sweep._repr_html_()


def test_the_plot_has_the_measured_and_the_theoretical_curve() -> None:
    sweep = privacy_sweep(SPLITS, Rows, Total, "s3", epsilons=[10, 0.1], sensitivity=1, repeats=5)
    (axes,) = sweep.plot().axes
    curves = {str(line.get_label()): line for line in axes.lines}
    assert np.asarray(curves["measured, mean"].get_ydata()).tolist() == [row.mean for row in reversed(sweep.rows)]
    assert np.asarray(curves["expected of the noise"].get_ydata()).tolist() == pytest.approx([10, 0.1])


def test_progress_is_told() -> None:
    steps: list[tuple[int, int]] = []
    privacy_sweep(
        SPLITS,
        Rows,
        Total,
        "s3",
        epsilons=[1, 2],
        sensitivity=1,
        repeats=2,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_it_works_inside_a_running_event_loop_prints_and_writes_nothing(
    tmp_path: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    privacy = Privacy(epsilon=1, sensitivity=1, noise_at="broadcast")
    privacy_sweep(
        SPLITS, Rows, Total, "s3", epsilons=[1], privacy=privacy, repeats=2, result_filepath=tmp_path / "out.txt"
    )
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"epsilons": [], "sensitivity": 1}, "epsilons="),
        ({"epsilons": 1, "sensitivity": 1}, "epsilons=1"),
        ({"epsilons": [0], "sensitivity": 1}, "epsilon=0"),
        ({"epsilons": [1]}, "no sensitivity"),
        ({"epsilons": [1], "sensitivity": 1, "privacy": Privacy(epsilon=1, sensitivity=1)}, "both given"),
        ({"epsilons": [1], "sensitivity": 1, "repeats": 0}, "repeats=0"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        privacy_sweep(SPLITS, Rows, Total, "s3", **arguments)


def test_a_result_that_is_no_number_is_refused() -> None:
    with pytest.raises(PrivacyError, match="type str"):
        privacy_sweep(SPLITS, Rows, Words, "s3", epsilons=[1], sensitivity=1)
