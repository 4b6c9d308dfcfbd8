"""What is said of how a run went: one kind for each way that aggregates go, and the advice that fits it."""

import itertools
import math
import pickle
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_actors import Report, Round, Withheld
from star_actors.display.diagnosis import Diagnosis, diagnose
from star_actors.report import StopReason, Summary


def of(aggregates: Sequence[Any], stop_reason: StopReason = "max_iterations", **fields: Any) -> Diagnosis:
    rounds = [Round(i, aggregate, 0.01, {}, 1, 1) for i, aggregate in enumerate(aggregates)]
    return diagnose(Report(rounds=rounds, stop_reason=stop_reason, **fields))


def test_the_run_of_the_guide_converges_by_half_a_round() -> None:
    found = of([4.5, 5.0, 5.25, 5.375, 5.4375, 5.46875], "converged")
    assert found.kind == "converging"
    assert found.rate == pytest.approx(0.5)
    assert "within 0.031 of its limit" in found.text  # which is 5.5


@given(st.floats(0.05, 0.95), st.floats(0.01, 1e6), st.integers(8, 80), st.booleans())
def test_a_geometric_way_to_the_limit_converges_at_its_rate(rate: float, scale: float, rounds: int, flip: bool) -> None:
    steps = itertools.takewhile(lambda x: abs(x) > 1e-9, ((-rate if flip else rate) ** i for i in range(rounds)))
    aggregates = [scale * (x if flip else 1 + x) for x in steps]
    found = of(aggregates, "converged")
    if len(aggregates) > 4:
        assert found.kind == "converging"
        assert found.rate == pytest.approx(rate, rel=0.05)


def test_converging_that_is_slower_than_any_rate_is_converging() -> None:
    found = of([1 / (k + 1) for k in range(500)])
    assert found.kind == "never true"
    assert "the change halves about every" in found.text


def test_converging_that_its_last_rounds_do_not_show_is_converging() -> None:
    found = of([math.exp(-i / 400) + 5 for i in range(10_000)], "converged")
    assert found.kind == "converging"
    assert found.rate == pytest.approx(math.exp(-1 / 400), rel=1e-3)
    assert "every 277 rounds" in found.text


def test_a_good_way_that_max_iterations_cut_off_was_never_true() -> None:
    found = of([1 - 0.9**i for i in range(40)])
    assert found.kind == "never true"
    assert found.rate == pytest.approx(0.9)
    assert "never true in 40 rounds" in found.text
    assert "max_iterations" in found.advice


@given(st.integers(2, 12), st.randoms(use_true_random=False), st.integers(3, 6))
def test_an_aggregate_that_comes_back_oscillates_with_its_period(period: int, chance: random.Random, laps: int) -> None:
    cycle = [[chance.random() + i, chance.random()] for i in range(period)]
    found = of(cycle * laps)
    assert found.kind == "oscillating"
    assert found.period == period


def test_an_oscillation_that_hardly_fades_is_one() -> None:
    assert of([(-0.999) ** i for i in range(80)]).period == 2


def test_an_oscillation_that_fades_converges() -> None:
    assert of([(-0.9) ** i for i in range(60)], "converged").kind == "converging"


@pytest.mark.parametrize(
    "aggregates",
    [
        [1.3**i for i in range(30)],
        [float(i) for i in range(30)],
        [np.array([i, -i], float) for i in range(30)],
        [i**2 for i in range(30)],
    ],
)
def test_an_aggregate_that_runs_away_diverges(aggregates: list[Any]) -> None:
    assert of(aggregates).kind == "diverging"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_diverge_and_the_first_such_round_is_named(bad: float) -> None:
    found = of([1.0 + i for i in range(700)] + [bad] * 600)
    assert found.kind == "diverging"
    assert "since round 700 " in found.text


def test_an_aggregate_that_never_moves_is_stuck() -> None:
    found = of([{"beta": [3.0]}] * 20)
    assert found.kind == "stuck"
    assert "never moved" in found.text


def test_the_last_bits_of_a_number_are_no_movement() -> None:
    found = of([math.pi + (i % 2) * 4e-16 for i in range(20)])
    assert found.kind == "stuck"
    assert "never moved" in found.text


def test_an_aggregate_that_arrived_unnoticed_is_stuck_since_then() -> None:
    found = of([float(max(0, 5 - i)) for i in range(20)])
    assert found.kind == "stuck"
    assert "since round 5" in found.text


def test_a_fixed_point_that_was_noticed_is_convergence() -> None:
    found = of([*(float(max(0, 5 - i)) for i in range(8))], "converged")
    assert found.kind == "converging"
    assert "fixed point" in found.text


def test_a_floor_of_noise_is_stuck_and_its_height_is_told() -> None:
    chance = random.Random(4)
    found = of([math.exp(-i) + chance.gauss(0, 1e-3) for i in range(100)])
    assert found.kind == "stuck"
    assert "stopped shrinking" in found.text


def test_a_test_that_is_true_the_first_time_is_true_at_once() -> None:
    found = of([1.0, 2.0], "converged")
    assert found.kind == "true at once"
    assert "moved by 1.0" in found.text


def test_one_round_is_a_single_round() -> None:
    assert of([1.0], "single round").kind == "single round"


def test_no_round_is_undetermined() -> None:
    assert of([], "failed").kind == "undetermined"


def test_a_run_that_failed_early_is_too_short_to_tell() -> None:
    assert "too short" in of([1.0, 2.0], "failed").text


def test_text_cannot_be_judged() -> None:
    found = of(["a"] * 5)
    assert found.kind == "never true"
    assert "no number" in found.text


def test_withheld_aggregates_are_not_judged() -> None:
    found = of([Withheld()] * 5, "converged")
    assert found.kind == "undetermined"
    assert "withheld" in found.text


def test_dropped_aggregates_do_not_keep_the_last_from_being_judged() -> None:
    dropped = [Summary("float", 21)] * 500
    assert of([*dropped, *(1 - 0.5**i for i in range(20))], "converged").rate == pytest.approx(0.5)


def test_a_structure_that_changes_is_judged_from_there_on() -> None:
    found = of([[1.0]] * 3 + [[2.0 + 0.5**i, 0.0] for i in range(10)], "converged")
    assert found.kind == "converging"
    assert found.rate == pytest.approx(0.5)


def test_every_kind_comes_with_a_sentence_of_advice() -> None:
    runs: list[tuple[Sequence[Any], StopReason]] = [
        ([1.0], "single round"),
        ([1.0, 2.0], "converged"),
        ([], "failed"),
        ([], "timeout"),
        ([1.0, 2.0] * 10, "max_iterations"),
        (["a"] * 3, "max_iterations"),
        ([1.0, 2.0], "stopped"),
        ([Withheld()] * 3, "budget"),
    ]
    for aggregates, stop_reason in runs:
        found = of(aggregates, stop_reason)
        assert found.text.endswith(".")
        assert found.advice.endswith(".")


def test_a_diagnosis_pickles_and_reads_as_its_sentences() -> None:
    found = of([1.0, 2.0] * 10)
    assert pickle.loads(pickle.dumps(found)) == found
    assert str(found) == f"{found.text} {found.advice}"


def test_ten_thousand_rounds_of_arrays_take_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    from star_actors.display import values

    calls = 0
    distance = values.Numbers.distance

    def counted(self: Any, other: Any) -> float | None:
        nonlocal calls
        calls += 1
        return distance(self, other)

    monkeypatch.setattr(values.Numbers, "distance", counted)
    of([np.full(3, 1 + math.sin(i)) for i in range(10_000)])
    assert calls < 2500
