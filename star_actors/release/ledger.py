"""The privacy ledger: what every release costs, what it adds up to, what it does not cover.

Pure epsilons add up (basic composition, Dwork et al. 2006), exactly, as the decimal numbers that were written: three
times 0.1 is within a budget of 0.3. Gaussian releases add up in zCDP (Bun and Steinke 2016), from OpenDP's own privacy
map, and OpenDP turns the sum into epsilon at the delta of one release.
"""

from __future__ import annotations

import math
import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from star_actors.errors import PrivacyError
from star_actors.report import Release

from .noise import Mechanism, zcdp_epsilon

if TYPE_CHECKING:
    from star_actors.options import Privacy

__all__ = ["BudgetError", "Ledger", "PrivacyAccount", "Total"]


class BudgetError(PrivacyError):
    """The next release would cost more than the budget has left. It was not made, and not charged."""


class Total(NamedTuple):
    """What releases add up to: (epsilon, delta)-differential privacy."""

    epsilon: float
    delta: float


class PrivacyAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of the ledger, for the report.

    `epsilon` and `delta` are what all `releases` add up to for one person: over analyzers the most that one site
    spent where sites hold different people (`disjoint`), the sum otherwise. `not_covered` says in words what no noise
    protects. A rehearsal (`keep_exact`) holds exact values, so its report protects nobody.
    """

    releases: list[Release]
    epsilon: float
    delta: float
    sensitivity: float
    budget: float | None
    clip: float | None
    noise_at: Literal["final", "broadcast", "analyzer"]
    disjoint: bool
    keep_exact: bool
    not_covered: list[str]

    @property
    def rehearsal(self) -> bool:
        """Whether the report beside this account holds exact values."""
        return self.keep_exact

    def __str__(self) -> str:
        guarantee = f"epsilon={self.epsilon:g}" + (f", delta={self.delta:g}" if self.delta else "")
        budget = "" if self.budget is None else f" of a budget of {self.budget:g}"
        lines = [f"privacy: {guarantee}{budget} for {len(self.releases)} releases (noise at: {self.noise_at})"]
        if self.keep_exact:
            lines.append("  REHEARSAL: exact values are in this report")
        return "\n".join(lines + [f"  not covered: {text}" for text in self.not_covered])


class Ledger:
    """Keeps account of every release of a run; safe to use from several threads.

    `iterative` says that the run has a convergence test, `exact_convergence` that the test sees exact aggregates.
    """

    def __init__(self, privacy: Privacy, *, iterative: bool = True, exact_convergence: bool = True) -> None:
        self._privacy = privacy
        self._iterative = iterative
        self._exact_convergence = exact_convergence
        self._lock = threading.Lock()
        self._releases: list[Release] = []
        self._nodes: dict[str, _Cost] = {}
        self._total = _NOTHING
        self._exact_broadcasts = 0
        self._notes: list[str] = []
        self._delta = float(privacy.delta or 0.0)
        self._budget = None if privacy.budget is None else _decimal(privacy.budget)
        self._converted: tuple[Fraction, float] = (Fraction(0), 0.0)
        self._affordable = Fraction(0)

    def charge(self, round: int, node_id: str, mechanism: Mechanism, *, times: int = 1) -> None:
        """Charge `times` releases by `mechanism`, before they are made.

        `node_id` is the node whose value is released: the aggregator, or an analyzer that noises its contributions.
        Raises BudgetError where the budget does not cover all of them; nothing is charged then.
        """
        cost = _Cost(times * _decimal(mechanism.epsilon), Fraction(0))
        if mechanism.gaussian:
            cost = _Cost(Fraction(0), times * Fraction(mechanism.rho))
        release = Release(round, node_id, mechanism.name, mechanism.scale, mechanism.epsilon, mechanism.delta)
        with self._lock:
            node = self._nodes.get(node_id, _NOTHING).plus(cost)
            # The larger of both costs on its own is at least the larger total.
            total = self._total.at_least(node) if self._privacy.disjoint else self._total.plus(cost)
            if not self._covers(total):
                raise BudgetError(self._short(release, times))
            self._nodes[node_id] = node
            self._total = total
            self._releases.extend([release] * times)

    def broadcast_exact(self) -> None:
        """Note that an aggregate went to the nodes without noise."""
        with self._lock:
            self._exact_broadcasts += 1

    def note(self, text: str) -> None:
        """Add to what is not covered, in words, once."""
        with self._lock:
            if text not in self._notes:
                self._notes.append(text)

    @property
    def releases(self) -> list[Release]:
        """Every release so far, in order."""
        with self._lock:
            return list(self._releases)

    @property
    def total(self) -> Total:
        """What all releases add up to for one person."""
        with self._lock:
            return self._composed()

    @property
    def not_covered(self) -> list[str]:
        """What the noise does not protect, in words."""
        with self._lock:
            return self._uncovered()

    def account(self) -> PrivacyAccount:
        """The ledger as it stands, for the report."""
        with self._lock:
            total = self._composed()
            return PrivacyAccount(
                releases=list(self._releases),
                epsilon=total.epsilon,
                delta=total.delta,
                sensitivity=float(self._privacy.sensitivity),
                budget=None if self._privacy.budget is None else float(self._privacy.budget),
                clip=None if self._privacy.clip is None else float(self._privacy.clip),
                noise_at=self._privacy.noise_at,
                disjoint=self._privacy.disjoint,
                keep_exact=self._privacy.keep_exact,
                not_covered=self._uncovered(),
            )

    def _composed(self) -> Total:
        gaussian = self._convert(self._total.rho)
        return Total(float(self._total.pure) + gaussian, self._delta if self._total.rho else 0.0)

    def _convert(self, rho: Fraction) -> float:
        # A conversion takes milliseconds; the same total is asked for again and again.
        if rho != self._converted[0]:
            self._converted = rho, zcdp_epsilon(_upwards(rho), self._delta)
        return self._converted[1]

    def _covers(self, total: _Cost) -> bool:
        if self._budget is None:
            return True
        if not total.rho:
            return total.pure <= self._budget
        # A conversion takes milliseconds: what the budget affords is looked for once, then charges only compare.
        if total.pure:
            return self._affords(total.rho, float(total.pure))
        if not self._affordable:
            self._affordable = self._search_affordable(total.rho)
        return total.rho <= self._affordable or self._affords(total.rho)

    def _affords(self, rho: Fraction, pure: float = 0.0) -> bool:
        return pure + zcdp_epsilon(_upwards(rho), self._delta) <= float(self._budget or 0)

    def _search_affordable(self, start: Fraction) -> Fraction:
        low, high = Fraction(0), start
        while self._affords(high):
            low, high = high, 2 * high
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if self._affords(middle) else (low, middle)
        return low

    def _short(self, release: Release, times: int) -> str:
        spent, made = self._composed(), len(self._releases)
        what = "the next release" if times == 1 else f"the next {times} releases"
        kept = "; the result of the last one that was paid for is in the report" if made else ""
        return (
            f"the privacy budget is spent: {what} (round {release.round}, {release.node_id}, {release.mechanism}, "
            f"epsilon={release.epsilon:g} each) would exceed budget={float(self._privacy.budget or 0):g}, of which "
            f"{spent.epsilon:g} is spent by {made} releases{kept}. A larger budget, a smaller epsilon or fewer rounds "
            "are wanted"
        )

    def _uncovered(self) -> list[str]:
        privacy = self._privacy
        texts = []
        if privacy.keep_exact:
            texts.append("rehearsal: the report keeps exact aggregates")
        if privacy.noise_at != "analyzer":
            texts.append("contributions reach the aggregator without noise: the aggregator must be trusted")
        if self._exact_broadcasts:
            texts.append(
                f"{self._exact_broadcasts} aggregates went to the nodes without noise: every node must be trusted"
            )
        if self._iterative and self._exact_convergence and privacy.noise_at != "analyzer":
            texts.append("the number of rounds follows from exact aggregates")
        texts.append(_on_trust(privacy))
        texts.append("shapes, lengths, keys and dtypes of what is released")
        texts.append("whether a run fails, how long it takes, how large its messages are, and what is found in them")
        texts.append("what the analysis logs, writes or sends by itself")
        return [text for text in texts if text] + self._notes


class _Cost(NamedTuple):
    """Pure epsilon and zCDP, side by side."""

    pure: Fraction
    rho: Fraction

    def plus(self, other: _Cost) -> _Cost:
        return _Cost(self.pure + other.pure, self.rho + other.rho)

    def at_least(self, other: _Cost) -> _Cost:
        return _Cost(max(self.pure, other.pure), max(self.rho, other.rho))


_NOTHING = _Cost(Fraction(0), Fraction(0))


def _decimal(number: float) -> Fraction:
    """The decimal number that was written, rather than the float nearest to it."""
    return Fraction(repr(float(number)))


def _upwards(number: Fraction) -> float:
    nearest = float(number)
    return nearest if Fraction(nearest) >= number else math.nextafter(nearest, math.inf)


def _on_trust(privacy: Privacy) -> str:
    sensitivity = f"sensitivity={float(privacy.sensitivity):g}"
    if privacy.clip is None:
        return f"{sensitivity} is taken on trust (check_sensitivity tests it, clip enforces it at the analyzers)"
    clip = f"clip={float(privacy.clip):g}"
    if privacy.noise_at != "analyzer":
        return f"{sensitivity} is taken on trust: {clip} bounds the contributions, not what is made of them"
    if privacy.sensitivity < 2 * privacy.clip:
        return f"{sensitivity} is taken on trust: {clip} alone lets a contribution move by {2 * float(privacy.clip):g}"
    return ""
