"""The ledger: what releases cost, what they add up to, what they do not cover."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from star_actors.errors import PrivacyError
from star_actors.options import Privacy
from star_actors.release.ledger import BudgetError, Ledger, PrivacyAccount, Total
from star_actors.release.noise import mechanism_for, zcdp_epsilon
from star_actors.report import Release


def ledger_of(**options: Any) -> tuple[Ledger, Any]:
    privacy = Privacy(**{"epsilon": 1.0, "sensitivity": 1.0, **options})
    return Ledger(privacy), mechanism_for(privacy)


def test_nothing_released_costs_nothing() -> None:
    ledger, _ = ledger_of(delta=1e-6)
    assert ledger.total == Total(0.0, 0.0)
    assert ledger.releases == []


def test_a_charge_records_the_release() -> None:
    ledger, mechanism = ledger_of(epsilon=0.5, delta=1e-5)
    ledger.charge(3, "node_2", mechanism)
    assert ledger.releases == [Release(3, "node_2", "gaussian", mechanism.scale, 0.5, 1e-5)]


def test_pure_epsilons_add_up_as_the_decimal_numbers_that_were_written() -> None:
    ledger, mechanism = ledger_of(epsilon=0.1)
    for round in range(3):
        ledger.charge(round, "node_2", mechanism)
    assert ledger.total == Total(0.3, 0.0)


def test_pure_epsilons_add_up_to_what_opendps_composition_says() -> None:
    from opendp import combinators, domains, measurements, metrics

    ledger, mechanism = ledger_of(epsilon=0.7, sensitivity=3.0)
    ledger.charge(0, "node_2", mechanism, times=9)
    space = domains.vector_domain(domains.atom_domain(T="f64", nan=False)), metrics.l1_distance(T="f64")
    composed: Any = combinators.make_composition([measurements.make_laplace(*space, scale=mechanism.scale)] * 9)
    assert ledger.total.epsilon == pytest.approx(composed.map(3.0), rel=1e-14)


@pytest.mark.parametrize("releases", [1, 5, 60])
def test_gaussians_add_up_to_what_opendps_zcdp_composition_says(releases: int) -> None:
    from opendp import combinators, domains, measurements, metrics

    ledger, mechanism = ledger_of(epsilon=0.5, sensitivity=3.0, delta=1e-6)
    for round in range(releases):
        ledger.charge(round, "node_2", mechanism)
    space = domains.vector_domain(domains.atom_domain(T="f64", nan=False)), metrics.l2_distance(T="f64")
    composed = combinators.make_composition([measurements.make_gaussian(*space, scale=mechanism.scale)] * releases)
    approximate: Any = combinators.make_zCDP_to_approxDP(composed)
    theirs = approximate.map(3.0).epsilon(1e-6)
    assert ledger.total.epsilon == pytest.approx(theirs, rel=1e-12)
    assert ledger.total.delta == 1e-6
    assert ledger.total.epsilon <= releases * 0.5


@pytest.mark.parametrize("delta", [None, 1e-6])
def test_over_disjoint_sites_the_largest_cost_counts(delta: float | None) -> None:
    ledger, mechanism = ledger_of(delta=delta)
    alone, _ = ledger_of(delta=delta)
    for node, times in (("node_0", 1), ("node_1", 3), ("node_2", 2)):
        ledger.charge(0, node, mechanism, times=times)
    alone.charge(0, "node_1", mechanism, times=3)
    assert ledger.total == alone.total


@pytest.mark.parametrize("delta", [None, 1e-6])
def test_over_sites_that_share_people_the_sum_counts(delta: float | None) -> None:
    ledger, mechanism = ledger_of(delta=delta, disjoint=False)
    together, _ = ledger_of(delta=delta)
    for node, times in (("node_0", 1), ("node_1", 3), ("node_2", 2)):
        ledger.charge(0, node, mechanism, times=times)
    together.charge(0, "node_9", mechanism, times=6)
    assert ledger.total == together.total


@pytest.mark.parametrize(
    ("options", "affordable"),
    [
        ({"epsilon": 0.1, "budget": 0.3}, 3),
        ({"epsilon": 1.0, "budget": 1.0}, 1),
        ({"epsilon": 1.0, "budget": 0.9}, 0),
        ({"epsilon": 0.1, "budget": 0.1, "delta": 1e-6}, 1),
        ({"epsilon": 1 / 3, "budget": 1.0}, 3),
    ],
    ids=str,
)
def test_a_budget_covers_as_many_releases_as_it_says(options: dict[str, Any], affordable: int) -> None:
    ledger, mechanism = ledger_of(**options)
    for round in range(affordable):
        ledger.charge(round, "node_2", mechanism)
    with pytest.raises(BudgetError, match="the privacy budget is spent"):
        ledger.charge(affordable, "node_2", mechanism)
    assert len(ledger.releases) == affordable
    assert ledger.total.epsilon <= options["budget"]


def test_a_gaussian_budget_is_used_up_to_the_last_release_that_it_covers() -> None:
    ledger, mechanism = ledger_of(epsilon=0.05, delta=1e-6, budget=1.0)
    free, _ = ledger_of(epsilon=0.05, delta=1e-6)

    def charge_all() -> None:
        for round in range(10_000):
            ledger.charge(round, "node_2", mechanism)

    with pytest.raises(BudgetError):
        charge_all()
    free.charge(0, "node_2", mechanism, times=len(ledger.releases))
    assert free.total == ledger.total
    assert free.total.epsilon <= 1.0
    free.charge(1, "node_2", mechanism)
    assert free.total.epsilon > 1.0


def test_a_charge_that_the_budget_does_not_cover_in_full_is_not_charged_in_part() -> None:
    ledger, mechanism = ledger_of(budget=2.5)
    ledger.charge(0, "node_2", mechanism)
    with pytest.raises(BudgetError, match="the next 2 releases"):
        ledger.charge(1, "node_2", mechanism, times=2)
    assert len(ledger.releases) == 1
    assert ledger.total == Total(1.0, 0.0)
    ledger.charge(1, "node_2", mechanism)


def test_a_budget_is_per_person_where_sites_are_disjoint() -> None:
    ledger, mechanism = ledger_of(budget=1.0)
    for node in range(50):
        ledger.charge(0, f"node_{node}", mechanism)
    with pytest.raises(BudgetError):
        ledger.charge(1, "node_7", mechanism)


def test_a_budget_error_is_a_privacy_error_that_pickles() -> None:
    ledger, mechanism = ledger_of(budget=0.5)
    with pytest.raises(PrivacyError) as caught:
        ledger.charge(4, "node_2", mechanism)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is BudgetError
    assert str(copy) == str(caught.value)
    assert "round 4, node_2, laplace, epsilon=1" in str(copy)


def test_ten_thousand_gaussian_charges_convert_the_budget_once(monkeypatch: pytest.MonkeyPatch) -> None:
    conversions = 0

    def counted(rho: float, delta: float) -> float:
        nonlocal conversions
        conversions += 1
        return zcdp_epsilon(rho, delta)

    monkeypatch.setattr("star_actors.release.ledger.zcdp_epsilon", counted)
    ledger, mechanism = ledger_of(epsilon=0.001, delta=1e-6, budget=5.0)
    for round in range(10_000):
        ledger.charge(round, "node_2", mechanism)
    assert conversions < 100


def test_an_epsilon_beyond_opendps_accounting_is_infinite_not_an_error() -> None:
    ledger, mechanism = ledger_of(epsilon=1000.0, delta=1e-6)
    ledger.charge(0, "node_2", mechanism, times=1000)
    assert ledger.total == Total(float("inf"), 1e-6)


def test_charges_from_many_threads_all_count() -> None:
    ledger, mechanism = ledger_of(epsilon=0.25, disjoint=False)

    def charge(node: int) -> None:
        for round in range(100):
            ledger.charge(round, f"node_{node}", mechanism)

    threads = [threading.Thread(target=charge, args=(node,)) for node in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.total == Total(200.0, 0.0)
    assert len(ledger.releases) == 800


def test_the_account_is_a_snapshot() -> None:
    ledger, mechanism = ledger_of(budget=5.0, clip=0.5, keep_exact=True, disjoint=False)
    ledger.charge(0, "node_2", mechanism)
    account = ledger.account()
    ledger.charge(1, "node_2", mechanism)
    assert len(account.releases) == 1
    assert account == PrivacyAccount(
        releases=ledger.releases[:1],
        epsilon=1.0,
        delta=0.0,
        sensitivity=1.0,
        budget=5.0,
        clip=0.5,
        noise_at="final",
        disjoint=False,
        keep_exact=True,
        not_covered=account.not_covered,
    )
    assert account.rehearsal
    assert "REHEARSAL" in str(account)
    assert "epsilon=1 of a budget of 5 for 1 releases" in str(account)


def covered(privacy: Privacy, *, broadcasts: int = 0, **about: Any) -> str:
    ledger = Ledger(privacy, **about)
    for _ in range(broadcasts):
        ledger.broadcast_exact()
    return "\n".join(ledger.not_covered)


def test_final_noise_does_not_cover_contributions_broadcasts_and_the_round_count() -> None:
    text = covered(Privacy(epsilon=1, sensitivity=1), broadcasts=7)
    assert "contributions reach the aggregator without noise" in text
    assert "7 aggregates went to the nodes without noise" in text
    assert "the number of rounds follows from exact aggregates" in text
    assert "sensitivity=1 is taken on trust" in text
    assert "shapes, lengths, keys and dtypes" in text


def test_a_single_round_has_no_round_count_to_cover() -> None:
    assert "number of rounds" not in covered(Privacy(epsilon=1, sensitivity=1), iterative=False)


def test_noise_at_the_analyzers_covers_the_way_to_the_aggregator_and_the_round_count() -> None:
    text = covered(Privacy(epsilon=1, sensitivity=1, noise_at="analyzer", clip=0.5))
    assert "contributions" not in text
    assert "number of rounds" not in text
    assert "trust" not in text


def test_clipping_that_does_not_enforce_the_sensitivity_is_said() -> None:
    text = covered(Privacy(epsilon=1, sensitivity=1, noise_at="analyzer", clip=2.0))
    assert "clip=2 alone lets a contribution move by 4" in text


def test_a_note_is_kept_once() -> None:
    ledger = Ledger(Privacy(epsilon=1, sensitivity=1))
    ledger.note("the aggregator's own split has no noise")
    ledger.note("the aggregator's own split has no noise")
    assert ledger.not_covered.count("the aggregator's own split has no noise") == 1
