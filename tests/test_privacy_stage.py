"""The privacy stage: what passes is noised and paid for, or does not pass; no error tells a value."""

from __future__ import annotations

import collections
import math
import traceback
from typing import Any

import numpy as np
import pytest

from star_actors.errors import ConfigurationError, PrivacyError
from star_actors.options import Privacy
from star_actors.release.ledger import BudgetError, Ledger
from star_actors.release.privacy import PrivacyStage, flame_can_noise

SECRET = 7316502948.25
SECRET_DIGITS = "73165029"


def stage_of(**options: Any) -> PrivacyStage:
    return PrivacyStage(Privacy(**{"epsilon": 1.0, "sensitivity": 1.0, **options}))


def told(error: BaseException) -> str:
    """Everything that an error says, its causes and contexts included, suppressed or not."""
    text = "".join(traceback.format_exception(error)) + repr(error.__dict__)
    for other in (error.__cause__, error.__context__):
        text += told(other) if other is not None else ""
    return text


@pytest.mark.parametrize("noise_at", ["final", "broadcast", "analyzer"])
def test_a_release_is_noised_and_charged_to_its_node_and_round(noise_at: str) -> None:
    stage = stage_of(noise_at=noise_at)
    released = stage.release(5.0, 3, "node_1")
    assert isinstance(released, float)
    assert released != 5.0
    (release,) = stage.ledger.releases
    assert (release.round, release.node_id, release.mechanism) == (3, "node_1", "laplace")


def test_a_container_is_one_draw_and_one_charge() -> None:
    stage = stage_of()
    released = stage.release({"a": [1.0, 2.0], "b": np.zeros((2, 2))}, 0, "node_2")
    assert list(released) == ["a", "b"]
    assert released["b"].shape == (2, 2)
    assert len(stage.ledger.releases) == 1


@pytest.mark.parametrize("kind", [list, tuple])
def test_each_of_several_results_is_a_charge(kind: type[list[Any]]) -> None:
    stage = stage_of()
    released = stage.release(kind([1.0, {"a": 2}, np.zeros(3)]), 0, "node_2", several=True)
    assert type(released) is kind
    assert [type(part) for part in released] == [float, dict, np.ndarray]
    assert stage.ledger.total.epsilon == 3.0


def test_of_several_results_a_number_is_one_charge() -> None:
    stage = stage_of()
    stage.release(1.0, 0, "node_2", several=True)
    assert stage.ledger.total.epsilon == 1.0


def test_of_several_results_none_is_nothing_and_costs_nothing() -> None:
    stage = stage_of()
    assert stage.release([], 0, "node_2", several=True) == []
    assert stage.ledger.total.epsilon == 0.0


def test_progress_counts_over_all_results() -> None:
    seen: list[tuple[int, int]] = []
    stage = PrivacyStage(Privacy(epsilon=1, sensitivity=1), progress=lambda *counts: seen.append(counts))
    stage.release([np.zeros(1500), 1.0, [2, 3]], 0, "node_2", several=True)
    assert seen[-1] == (1503, 1503)
    assert {total for _, total in seen} == {1503}
    assert sorted(seen) == seen


def test_a_stopped_draw_releases_nothing_but_stays_charged() -> None:
    stage = PrivacyStage(Privacy(epsilon=1, sensitivity=1), stop=lambda: True)
    with pytest.raises(PrivacyError, match="was stopped"):
        stage.release(SECRET, 0, "node_2")
    assert len(stage.ledger.releases) == 1


@pytest.mark.parametrize(
    "value",
    [
        str(SECRET),
        {"a": [1, str(SECRET)]},
        [SECRET, float("nan")],
        {7316502948: 1.0},
        collections.Counter({"a": int(SECRET)}),
        np.array([SECRET, None]),
        True,
        None,
    ],
    ids=repr,
)
def test_a_refused_value_costs_nothing_and_is_not_told(value: Any) -> None:
    stage = stage_of(sensitivity=1e-3)
    with pytest.raises(PrivacyError) as caught:
        stage.release(value, 0, "node_2")
    assert SECRET_DIGITS not in told(caught.value)
    assert stage.ledger.releases == []


def test_one_bad_one_of_several_results_releases_and_charges_nothing() -> None:
    stage = stage_of()
    with pytest.raises(PrivacyError, match=r"result\[1\]\[0\] is of type str"):
        stage.release([1.0, ["x"], 2.0], 0, "node_2", several=True)
    assert stage.ledger.releases == []


def test_an_exception_on_the_way_is_not_told_but_by_its_type() -> None:
    def progress(done: int, total: int) -> None:
        raise ValueError(f"unfortunately {SECRET}")

    stage = PrivacyStage(Privacy(epsilon=1, sensitivity=1), progress=progress)
    with pytest.raises(PrivacyError, match="ValueError was raised on the way") as caught:
        stage.release(SECRET, 0, "node_2")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert SECRET_DIGITS not in told(caught.value)


def test_a_class_of_the_values_own_never_runs() -> None:
    class Telling(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            raise AssertionError("the value was shown to its own class")

    stage = stage_of()
    released = stage.release(Telling([1.0, 2.0]), 0, "node_2", several=True)
    assert type(released) is list
    assert len(released) == 2


def test_what_the_budget_does_not_cover_is_not_released() -> None:
    stage = stage_of(budget=2.5)
    stage.release(1.0, 0, "node_2")
    stage.release(1.0, 1, "node_2")
    with pytest.raises(BudgetError):
        stage.release(SECRET, 2, "node_2")
    assert len(stage.ledger.releases) == 2


def test_a_ledger_may_be_shared() -> None:
    privacy = Privacy(epsilon=1, sensitivity=1, disjoint=False)
    ledger = Ledger(privacy)
    for node in range(2):
        PrivacyStage(privacy, ledger=ledger).release(1.0, 0, f"node_{node}")
    assert ledger.total.epsilon == 2.0


def test_a_stage_that_cannot_be_fails_when_it_is_made() -> None:
    with pytest.raises(ConfigurationError, match="noise scale of inf"):
        stage_of(epsilon=1e-300, sensitivity=1e10)


@pytest.mark.parametrize(("delta", "norm"), [(None, 1), (1e-6, 2)])
def test_contributions_are_clipped_in_the_norm_of_the_noise(delta: float | None, norm: int) -> None:
    stage = stage_of(noise_at="analyzer", clip=1.0, delta=delta)
    clipped = stage.clip({"w": np.array([3.0, -4.0]), "n": 12})
    flat = np.array([*clipped["w"], clipped["n"]])
    assert np.linalg.norm(flat, norm) == pytest.approx(1.0, rel=1e-9)


def test_without_clip_a_contribution_stays_the_same_object() -> None:
    contribution = ["anything", None]
    assert stage_of(noise_at="analyzer").clip(contribution) is contribution


def test_a_contribution_that_cannot_be_clipped_is_not_told() -> None:
    with pytest.raises(PrivacyError, match=r'contribution\["a"\] is of type str') as caught:
        stage_of(noise_at="analyzer", clip=1.0).clip({"a": str(SECRET)})
    assert SECRET_DIGITS not in told(caught.value)


@pytest.mark.parametrize(
    ("value", "can"),
    [
        (1, True),
        (-2.5, True),
        (np.float64(1.0), True),
        (True, False),
        (math.nan, False),
        (math.inf, False),
        (np.float32(1.0), False),
        (np.int64(1), False),
        ([1.0], False),
        (np.array(1.0), False),
        ("1.0", False),
        (None, False),
    ],
    ids=repr,
)
def test_flames_result_service_noises_one_finite_number_only(value: Any, can: bool) -> None:
    assert flame_can_noise(value) is can
