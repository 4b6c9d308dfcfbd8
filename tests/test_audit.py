"""The audit passes noise that is right and refutes noise that is wrong in each of the ways that it looks for.

Own mechanisms cannot be seeded: each audit of one fails by chance with probability ALPHA at most, all of this file's
together with 1e-5. The wrong ones are seeded, or wrong by so much that each is missed with 1e-6 at most.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from star_actors import StarAggregator, StarAnalyzer, StarModelTester
from star_actors.errors import ConfigurationError
from star_actors.options import Privacy
from star_actors.release.noise import Mechanism, mechanism_for
from star_actors.studies.audit import audit
from star_actors.studies.events import epsilon_bound

ALPHA = 1e-6

LAPLACE = mechanism_for(Privacy(epsilon=1, sensitivity=1))

Release = Callable[[Any], Any]


def seeded(draw: Callable[[np.random.Generator], Any], seed: int = 11) -> Release:
    """A noise function over one number: the input plus a draw."""
    rng = np.random.default_rng(seed)
    return lambda x: float(x + draw(rng))


def whole(draw: Callable[[np.random.Generator], Any], seed: int) -> Release:
    """A noise function over one whole number."""
    rng = np.random.default_rng(seed)
    return lambda x: x + int(draw(rng))


def textbook(rng: np.random.Generator) -> float:
    """Laplace noise as textbooks draw it, whose low-order bits give its input away (Mironov 2012)."""
    u = rng.random() - 0.5
    return float(-np.sign(u) * np.log(1 - 2 * abs(u)))


# --- what is right passes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"delta": 1e-6},
        {"integers": "discrete"},
        {"integers": "discrete", "delta": 1e-6},
        {"epsilon": 0.3, "sensitivity": 250.0},
    ],
    ids=str,
)
def test_own_mechanisms_pass(options: dict[str, Any]) -> None:
    mechanism = mechanism_for(Privacy(**{"epsilon": 1.0, "sensitivity": 1.0, **options}))
    result = audit(mechanism, n=800, alpha=ALPHA)
    assert result.passed, str(result)
    assert result.calibration is not None
    assert result.calibration.n == 2 * 800 * 8


def test_the_own_mechanism_passes_on_a_single_number_too() -> None:
    result = audit(LAPLACE, neighbours=(0.0, 1.0), n=2000, alpha=ALPHA)
    assert result.passed, str(result)
    assert 0.3 < result.epsilon_lower_bound <= 1


def test_a_rounded_dtype_does_not_spoil_the_noise() -> None:
    neighbours = np.zeros(20, np.float32), np.eye(1, 20, dtype=np.float32)[0]
    result = audit(LAPLACE, neighbours=neighbours, n=500, alpha=ALPHA)
    assert result.passed, str(result)


def test_numbers_and_integers_side_by_side_are_tested_apart() -> None:
    mechanism = mechanism_for(Privacy(epsilon=1, sensitivity=2, integers="discrete"))
    result = audit(mechanism, neighbours=({"n": 0, "x": 0.0}, {"n": 1, "x": 1.0}), n=1000, alpha=ALPHA)
    assert result.passed, str(result)


def test_a_right_analysis_passes() -> None:
    def analysis(sites: list[list[float]]) -> float:
        contributions = [(sum(min(max(x, 0.0), 1.0) for x in site), len(site)) for site in sites]
        count = sum(n for _, n in contributions)
        released: float = noise.noise(sum(total for total, _ in contributions) / count)
        return released

    noise = mechanism_for(Privacy(epsilon=1, sensitivity=1 / 6))
    one, other = [[0.5, 0.5, 1.0], [0.0, 9.0, 0.25]], [[0.5, 0.5, 1.0], [0.0, -9.0, 0.25]]
    exact = (sum([0.5, 0.5, 1, 0, 1, 0.25]) / 6, sum([0.5, 0.5, 1, 0, 0, 0.25]) / 6)
    result = audit(analysis, neighbours=(one, other), noise=noise, exact=exact, n=1000, alpha=ALPHA)
    assert result.passed, str(result)


class Count(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> int:
        return len(data)


class NoisySum(StarAggregator):
    def __init__(self, flame: Any, noise: Mechanism | None) -> None:
        super().__init__(flame)
        self.noise = noise

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        total = float(sum(analysis_results))
        return total if self.noise is None else self.noise.noise(total)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return True


@pytest.mark.parametrize("noise", [mechanism_for(Privacy(epsilon=0.5, sensitivity=1)), None], ids=["noisy", "exact"])
def test_a_whole_analysis_run_through_the_tester_is_audited(noise: Mechanism | None) -> None:
    def analysis(splits: list[list[int]]) -> Any:
        return StarModelTester(splits, Count, NoisySum, "s3", aggregator_kwargs={"noise": noise}).result

    result = audit(analysis, neighbours=([[1, 1], [1]], [[1, 1], [1, 1]]), claimed_epsilon=0.5, n=100, alpha=ALPHA)
    assert result.passed is (noise is not None), str(result)


# --- what is wrong does not


def test_half_the_scale_is_refuted_by_events() -> None:
    wrong = dataclasses.replace(LAPLACE, scale=LAPLACE.scale / 2)
    result = audit(wrong, neighbours=(0.0, 1.0), n=3000, alpha=1e-3)
    assert result.epsilon_lower_bound > 1, str(result)
    assert result.epsilon_lower_bound <= 2


@pytest.mark.parametrize("name", ["laplace", "gaussian", "discrete laplace", "discrete gaussian"])
def test_nine_tenths_of_the_scale_is_refuted_by_calibration(name: str) -> None:
    right = mechanism_for(
        Privacy(
            epsilon=1,
            sensitivity=1,
            delta=1e-6 if "gaussian" in name else None,
            integers="discrete" if "discrete" in name else "float",
        )
    )
    wrong = dataclasses.replace(right, scale=0.9 * right.scale)
    # 60,000 numbers at a distance of 0.019, or half as many (slower) Gaussian ones at 0.024: five standard deviations
    # outside of the band, or more.
    zeros = [0] * (125 if right.gaussian else 250)
    result = audit(wrong, neighbours=(zeros, [1, *zeros[1:]]), noise=right, n=120, alpha=1e-3)
    assert result.calibration is not None
    assert not result.calibration.passed, str(result)
    assert not result.passed


def test_textbook_laplace_noise_is_refuted_by_its_low_order_bits() -> None:
    result = audit(seeded(textbook), neighbours=(0.0, 1.0), noise=LAPLACE, n=8000, alpha=ALPHA, seed=1)
    assert result.epsilon_lower_bound > 3, str(result)
    assert "lowest set bit" in result.evidence[0].event
    assert result.calibration is not None
    assert result.calibration.passed, "the textbook's distribution is right, only its bits are not"


def test_one_draw_shared_by_a_vector_is_refuted() -> None:
    rng = np.random.default_rng(11)

    def shared(x: list[float]) -> list[float]:
        draw = textbook(rng)
        return [number + draw for number in x]

    result = audit(shared, neighbours=([0.0, 0.0], [1.0, 0.0]), claimed_epsilon=1.0, n=4000, alpha=ALPHA, seed=1)
    assert result.epsilon_lower_bound > 4, str(result)
    assert "number 0 - number 1" in result.evidence[0].event or "number 1 - number 0" in result.evidence[0].event


def test_one_draw_shared_by_the_default_neighbours_is_refuted() -> None:
    class Shared(Mechanism):
        def noise(self, value: Any, **_: Any) -> Any:
            draw = super().noise(0.0)
            return [number + draw for number in value]

    result = audit(Shared(**dataclasses.asdict(LAPLACE)), n=1000, alpha=1e-3)
    assert result.epsilon_lower_bound > 2, str(result)


def test_no_noise_is_refuted() -> None:
    result = audit(lambda x: x, neighbours=(0.0, 1.0), claimed_epsilon=1.0, n=1000, alpha=ALPHA)
    assert not result.passed
    assert result.epsilon_lower_bound == pytest.approx(result.detectable)


def test_noise_that_is_left_out_now_and_then_is_refuted() -> None:
    rng = np.random.default_rng(11)

    def forgetful(x: float) -> Any:
        return x if rng.random() < 0.2 else LAPLACE.noise(x)

    result = audit(forgetful, neighbours=(0.25, 0.75), claimed_epsilon=1.0, n=2000, alpha=1e-3, seed=1)
    assert not result.passed, str(result)
    assert {"number 0 == 0.25", "number 0 == 0.75"} & {e.event for e in result.evidence if e.epsilon > 1}


def test_noise_from_a_short_list_is_refuted() -> None:
    pool = np.random.default_rng(1).laplace(size=300)
    result = audit(
        seeded(lambda rng: rng.choice(pool)), neighbours=(0.0, 1.0), claimed_epsilon=1.0, n=4000, alpha=ALPHA, seed=1
    )
    assert result.epsilon_lower_bound > 3, str(result)
    assert "seen under one input only" in result.evidence[0].event


def test_noise_whose_width_depends_on_the_data_is_refuted() -> None:
    rng = np.random.default_rng(11)
    result = audit(
        lambda x: rng.laplace(scale=1 + 9 * x), neighbours=(0.0, 1.0), claimed_epsilon=1.0, n=8000, alpha=ALPHA, seed=1
    )
    assert not result.passed, str(result)


def test_an_exception_for_one_input_only_is_refuted() -> None:
    rng = np.random.default_rng(11)

    def fragile(x: float) -> float:
        if x and rng.random() < 0.2:
            raise ZeroDivisionError
        return float(rng.laplace())

    result = audit(fragile, neighbours=(0.0, 1.0), claimed_epsilon=1.0, n=4000, alpha=ALPHA, seed=1)
    assert not result.passed, str(result)
    assert result.evidence[0].event == "raises ZeroDivisionError"


def test_a_type_that_tells_is_refuted() -> None:
    result = audit(
        lambda x: None if x else float(np.random.default_rng().laplace()),
        neighbours=(0, 1),
        claimed_epsilon=1.0,
        n=1000,
        alpha=ALPHA,
    )
    assert result.evidence[0].event in {"returns None", "returns numbers in layout 0"}
    assert not result.passed


def test_a_believed_sensitivity_that_is_too_small_is_refuted() -> None:
    def analysis(rows: list[float]) -> float:
        released: float = LAPLACE.noise(sum(rows))
        return released

    result = audit(analysis, neighbours=([1.0, 0.0], [1.0, 3.0]), claimed_epsilon=1.0, n=2000, alpha=1e-3)
    assert result.epsilon_lower_bound > 1, str(result)


# --- the statistics


def test_the_bound_on_epsilon_is_clopper_and_pearsons() -> None:
    def at_most(k: int, p: float) -> float:
        return sum(math.comb(20, i) * p**i * (1 - p) ** (20 - i) for i in range(k + 1))

    # All 20 against 0: the bounds have a closed form. The other counts: the bounds put 1 % into either tail.
    least, most = 0.01 ** (1 / 20), 1 - 0.01 ** (1 / 20)
    assert epsilon_bound(20, 0, 20, 20, 0.05, 0.01) == pytest.approx(math.log((least - 0.05) / most))
    least = most / math.exp(-epsilon_bound(15, 0, 20, 20, 0.0, 0.01))
    assert 1 - at_most(14, least) == pytest.approx(0.01)
    most = 0.01 ** (1 / 20) / math.exp(epsilon_bound(20, 3, 20, 20, 0.0, 0.01))
    assert at_most(3, most) == pytest.approx(0.01)


@pytest.mark.parametrize(("often", "seldom"), [(0, 0), (0, 10), (10, 10), (3, 4)])
def test_events_that_prove_nothing_bound_epsilon_by_zero(often: int, seldom: int) -> None:
    assert epsilon_bound(often, seldom, 10, 10, 0.0, 0.05) == 0


def test_a_true_claim_is_refuted_no_more_often_than_stated() -> None:
    # The difference of two geometric numbers is discrete Laplace noise, with no floating point in it: exactly the
    # claim. 100 audits at alpha=0.1 may refute it 10 times; 28 times or more has a probability of 1e-7. (Seeded, so
    # it holds or it does not.)
    noise = mechanism_for(Privacy(epsilon=1, sensitivity=1, integers="discrete"))
    p = 1 - math.exp(-1)
    refuted = 0
    for seed in range(100):
        release = whole(lambda rng: rng.geometric(p) - rng.geometric(p), seed)
        result = audit(release, neighbours=(0, 1), noise=noise, n=150, alpha=0.1, seed=seed)
        refuted += not result.passed
    assert refuted < 28


def test_the_same_seed_repeats_an_audit_of_seeded_noise() -> None:
    results = [
        audit(seeded(textbook), neighbours=(0.0, 1.0), noise=LAPLACE, n=1000, alpha=ALPHA, seed=4) for _ in range(2)
    ]
    assert results[0] == results[1]


def test_delta_is_allowed_for() -> None:
    rng = np.random.default_rng(11)

    def release(x: float) -> float:
        return x if rng.random() < 0.05 else float(rng.integers(2))

    options: dict[str, Any] = {"neighbours": (7.0, 8.0), "claimed_epsilon": 0.5, "n": 8000, "alpha": ALPHA, "seed": 1}
    assert not audit(release, **options).passed
    assert audit(release, claimed_delta=0.1, **options).passed


# --- how it is asked and what it says


def test_a_result_says_claim_verdict_evidence_and_false_alarm_rate() -> None:
    text = str(audit(lambda x: x, neighbours=(0.0, 1.0), noise=LAPLACE, n=1000, alpha=ALPHA))
    assert "the claim of epsilon=1 is REFUTED" in text
    assert "epsilon is at least" in text
    assert "OUTSIDE the band" in text
    assert "false-alarm rate: at most 1e-06" in text


def test_progress_counts_the_releases_of_both_inputs() -> None:
    seen: list[tuple[int, int]] = []
    audit(
        lambda x: x,
        neighbours=(0.0, 1.0),
        claimed_epsilon=1.0,
        n=1000,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (2000, 2000)


def failing(_: Any) -> Any:
    raise OSError("no such thing")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"target": 3}, "target is of type int"),
        ({"neighbours": None}, "nothing is given, neighbours="),
        ({"neighbours": [1.0]}, "neighbours of type list is given"),
        ({"claimed_epsilon": None}, "claimed_epsilon=None is given"),
        ({"claimed_epsilon": -1.0}, "claimed_epsilon=-1.0 is given"),
        ({"claimed_delta": 1.0}, "claimed_delta=1.0 is given"),
        ({"exact": (0.0, 1.0)}, "exact is given without noise"),
        ({"noise": LAPLACE, "exact": (0.0, [1.0])}, "laid out differently"),
        ({"noise": LAPLACE, "neighbours": ("a", "b")}, "exact is of type str"),
        ({"noise": LAPLACE, "exact": ([0.0], [1.0])}, "laid out differently from the exact results"),
        ({"target": LAPLACE, "neighbours": (0.0, 1.5)}, "the neighbours are 1.5 apart"),
        ({"n": 20}, "n=20 is given"),
        ({"alpha": 0.0}, "alpha=0.0 is given"),
        ({"seed": -1}, "seed=-1 is given"),
        ({"claimed_epsilon": 9.0}, "releases can show an epsilon of"),
        ({"target": failing}, "every release raised, the first time OSError"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ",".join(value),
)
def test_arguments_that_cannot_refute_anything_are_errors(arguments: dict[str, Any], text: str) -> None:
    defaults: dict[str, Any] = {
        "target": lambda x: x,
        "neighbours": (0.0, 1.0),
        "claimed_epsilon": 1.0,
        "n": 200,
        "alpha": 0.01,
    }
    given = {**defaults, **arguments}
    with pytest.raises(ConfigurationError, match=text.replace("(", r"\(")):
        audit(given.pop("target"), **given)


def test_an_epsilon_too_large_for_n_says_which_n_would_do() -> None:
    with pytest.raises(ConfigurationError) as caught:
        audit(lambda x: x, neighbours=(0.0, 1.0), claimed_epsilon=6.0, n=200)
    n = int(str(caught.value).partition("about ")[2].partition(")")[0])
    assert not audit(lambda x: x, neighbours=(0.0, 1.0), claimed_epsilon=6.0, n=n).passed
