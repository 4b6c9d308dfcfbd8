"""Is my noise right? A statistical test of what a mechanism, or a whole analysis, claims about its privacy.

Two neighbouring inputs are released many times. Half of the releases choose events that tell the inputs apart: tails,
differences between numbers, low-order bits, exact values, exceptions. The other half, which the choice never saw,
says how likely each event is under either input; Clopper-Pearson bounds on both give a lower bound on epsilon that
holds whatever the mechanism is. Where the claimed noise is known, its distribution is compared with a band around the
empirical one, which finds scales that are only a little too small.

An audit can refute a claim. It cannot prove one: what it does not look for, it does not find.

Sources: Clopper and Pearson 1934; Massart 1990 (the constant of the Dvoretzky-Kiefer-Wolfowitz band); Mironov 2012
(low-order bits); Ding et al. 2018 and Jagielski et al. 2020 (epsilon from below, by events chosen on other releases).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_actors.errors import ConfigurationError, PrivacyError
from star_actors.release.flatten import Flat, flatten
from star_actors.release.noise import Mechanism, Progress

from .calibration import Calibration, calibrate
from .events import FAMILIES, Sample, choose_events, epsilon_bound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AuditResult", "Calibration", "Evidence", "audit"]

_DIMENSIONS = 8
"""Numbers in the results that a mechanism is audited with: several, so that a draw shared by them shows."""

_MOST_BYTES = 2 << 30
_BOUNDS = 2 * 2 * len(FAMILIES)
"""Two bounds on each event, of each family, in each direction: they share the false-alarm rate."""


@dataclass(frozen=True)
class Evidence:
    """One event, tested on releases that did not choose it, and the epsilon that it proves.

    `often` and `seldom` are its counts under the two inputs, of `n` releases each.
    """

    event: str
    often: int
    seldom: int
    n: int
    epsilon: float

    def __str__(self) -> str:
        return f"epsilon >= {self.epsilon:.3g}: {self.event} ({self.often} against {self.seldom} of {self.n} releases)"


@dataclass(frozen=True)
class AuditResult:
    """What an audit found.

    `epsilon_lower_bound` is what the best of `evidence` proves; `claimed` and `claimed_delta` are the claim. A claim
    that is true is refuted with probability at most `alpha`. `calibration` is None where no distribution was claimed.
    `detectable` is the largest epsilon that this many releases (`n` of each input) could have proved.
    """

    claimed: float
    claimed_delta: float
    epsilon_lower_bound: float
    evidence: tuple[Evidence, ...]
    calibration: Calibration | None
    n: int
    alpha: float
    detectable: float

    @property
    def passed(self) -> bool:
        """Whether nothing refutes the claim."""
        calibrated = self.calibration is None or self.calibration.passed
        return calibrated and self.epsilon_lower_bound <= self.claimed

    def __str__(self) -> str:
        claim = f"epsilon={self.claimed:g}" + (f", delta={self.claimed_delta:g}" if self.claimed_delta else "")
        verdict = "not refuted (which is no proof)" if self.passed else "REFUTED"
        lines = [
            f"audit: the claim of {claim} is {verdict}",
            f"  epsilon is at least {self.epsilon_lower_bound:.3g}; "
            f"{self.n} releases of each input could have shown up to {self.detectable:.3g}",
        ]
        lines += [f"  {evidence}" for evidence in self.evidence[:3] if evidence.epsilon > 0]
        lines.append(f"  calibration: {self.calibration or 'no noise distribution was claimed'}")
        lines.append(f"  false-alarm rate: at most {self.alpha:g}")
        return "\n".join(lines)


def audit(
    target: Mechanism | Callable[[Any], Any],
    *,
    neighbours: tuple[Any, Any] | None = None,
    claimed_epsilon: float | None = None,
    claimed_delta: float | None = None,
    noise: Mechanism | None = None,
    exact: tuple[Any, Any] | None = None,
    n: int = 10_000,
    alpha: float = 1e-3,
    seed: int | None = None,
    progress: Progress | None = None,
) -> AuditResult:
    """Try to refute a privacy claim by releasing two neighbouring inputs `n` times each.

    `target` is a mechanism, or any function from an input to what is released: a noise function, or a whole analysis
    such as `lambda splits: StarModelTester(splits, ...).result`. An exception that it raises is a release too.
    `neighbours` are two inputs that differ in one person; needed unless a mechanism is given, whose default is eight
    numbers of which one differs by the sensitivity. `claimed_epsilon` and `claimed_delta` default to those of the
    mechanism. `noise` is the noise that `target` claims to add to the two `exact` results (the neighbours themselves,
    if left out); with it, the distribution is tested too.
    `alpha` is the probability that a true claim is refuted, shared between both tests. `seed` fixes the order of the
    releases and the choice of events, not the noise. `progress(done, total)` counts releases.
    Needs scipy (the extra `studies`). Raises ConfigurationError where the arguments cannot refute anything.
    """
    import numpy as np

    _need_scipy()
    claim = _Claim.of(target, neighbours, claimed_epsilon, claimed_delta, noise, exact)
    _check(n, alpha, seed)
    tests = alpha / 2 if claim.noise is not None else alpha
    level = tests / _BOUNDS
    half = n // 2
    detectable = float(epsilon_bound(n - half, 0, n - half, n - half, claim.delta, level))
    if claim.epsilon >= detectable and claim.noise is None:
        raise ConfigurationError(
            f"n={n} releases can show an epsilon of {detectable:.3g} at most, and {claim.epsilon:g} is claimed; a "
            f"larger n (about {_wanted(claim, level)}) or a larger alpha is wanted"
        )
    rng = np.random.default_rng(seed)
    releases = _Releases.collect(claim, n, rng, progress)
    samples = [releases.sample(which) for which in (0, 1)]
    orders = [rng.permutation(n) for _ in samples]
    train = [sample.take(order[:half]) for sample, order in zip(samples, orders, strict=True)]
    test = [sample.take(order[half:]) for sample, order in zip(samples, orders, strict=True)]
    evidence = []
    for event, first in choose_events(train[0], train[1], releases.kinds, claim.delta, level, rng):
        often, seldom = (event.count(sample) for sample in (test if first else reversed(test)))
        epsilon = float(epsilon_bound(often, seldom, n - half, n - half, claim.delta, level))
        evidence.append(Evidence(event.description, often, seldom, n - half, epsilon))
    evidence.sort(key=lambda e: -e.epsilon)
    return AuditResult(
        claimed=claim.epsilon,
        claimed_delta=claim.delta,
        epsilon_lower_bound=evidence[0].epsilon if evidence else 0.0,
        evidence=tuple(evidence),
        calibration=_calibration(claim, samples, releases.layout, alpha / 2),
        n=n,
        alpha=alpha,
        detectable=detectable,
    )


@dataclass(frozen=True)
class _Claim:
    """What is audited: the function, its two inputs, and what it promises about them."""

    release: Callable[[Any], Any]
    inputs: tuple[Any, Any]
    epsilon: float
    delta: float
    noise: Mechanism | None
    exact: tuple[Flat, Flat] | None

    @classmethod
    def of(
        cls,
        target: Mechanism | Callable[[Any], Any],
        neighbours: tuple[Any, Any] | None,
        epsilon: float | None,
        delta: float | None,
        noise: Mechanism | None,
        exact: tuple[Any, Any] | None,
    ) -> _Claim:
        """The claim that the arguments of `audit` make; raises ConfigurationError where they do not make one."""
        if isinstance(target, Mechanism):
            noise = noise or target
            neighbours = neighbours or _default_neighbours(target)
        elif not callable(target):
            raise ConfigurationError(
                f"target is of type {type(target).__qualname__}; a Mechanism, or a function from an input to what is "
                "released, is wanted"
            )
        if noise is not None:
            epsilon = noise.epsilon if epsilon is None else epsilon
            delta = noise.delta if delta is None else delta
        if epsilon is None or not 0 < epsilon < math.inf:
            raise ConfigurationError(f"claimed_epsilon={epsilon!r} is given, the epsilon that is claimed is wanted")
        delta = 0.0 if delta is None else delta
        if not 0 <= delta < 1:
            raise ConfigurationError(f"claimed_delta={delta!r} is given, a probability below 1 is wanted")
        inputs = _pair("neighbours", neighbours)
        flat = None
        if noise is not None:
            flat = _exact(_pair("exact", inputs if exact is None else exact), noise)
        elif exact is not None:
            raise ConfigurationError("exact is given without noise; the Mechanism that is claimed is wanted as noise")
        if isinstance(target, Mechanism):
            _check_neighbours(flat, target)
            return cls(target.noise, inputs, epsilon, delta, noise, flat)
        return cls(target, inputs, epsilon, delta, noise, flat)


class _Releases:
    """What came out, input by input: numbers of the most common layout, and kinds for everything else."""

    def __init__(self) -> None:
        self._kinds: dict[str, int] = {}
        self.layout: Any = None
        self._layouts: list[Any] = []
        self._rows: tuple[list[_Row], list[_Row]] = ([], [])
        self._main = -1
        self._width = 0

    @classmethod
    def collect(cls, claim: _Claim, n: int, rng: np.random.Generator, progress: Progress | None) -> _Releases:
        """Release both inputs `n` times, in random order, so that whatever drifts drifts for both."""
        import numpy as np

        self = cls()
        failure: Exception | None = None
        step = max(1, n // 50)
        for done, which in enumerate(rng.permutation(np.repeat([0, 1], n)).tolist(), 1):
            try:
                value = claim.release(claim.inputs[which])
            except Exception as error:  # a release that fails for one input only gives the inputs away
                failure = failure or error
                self._rows[which].append((self._kind(f"raises {type(error).__name__}"), None))
            else:
                self._rows[which].append(self._observe(value, claim))
            if progress is not None and (done % step == 0 or done == 2 * n):
                progress(done, 2 * n)
        self._settle(n, failure)
        return self

    def sample(self, which: int) -> Sample:
        """The releases of one input."""
        import numpy as np

        rows = self._rows[which]
        numbers = np.full((len(rows), self._width), np.nan)
        for i, (kind, row) in enumerate(rows):
            if kind == self._main and row is not None:
                numbers[i] = row
        return Sample(np.array([kind for kind, _ in rows], dtype=np.int64), numbers)

    @property
    def kinds(self) -> list[str]:
        """What a release can be, in words."""
        return list(self._kinds)

    def _observe(self, value: Any, claim: _Claim) -> _Row:
        import numpy as np

        if value is None or type(value) in (bool, str, bytes):
            return self._kind(f"returns {repr(value)[:60]}"), None
        try:
            flat = flatten(value, integers="float" if claim.noise is None else claim.noise.integers)
        except PrivacyError as error:
            return self._kind(f"returns something else: {error}"), None
        if flat.skeleton not in self._layouts:
            self._layouts.append(flat.skeleton)
        kind = self._kind(f"returns numbers in layout {self._layouts.index(flat.skeleton)}")
        return kind, np.concatenate([flat.floats, flat.ints.astype(np.float64)])

    def _kind(self, name: str) -> int:
        return self._kinds.setdefault(name, len(self._kinds))

    def _settle(self, n: int, failure: Exception | None) -> None:
        counts = Counter(kind for rows in self._rows for kind, row in rows if row is not None)
        kinds = self.kinds
        if failure is not None and all(kind.startswith("raises") for kind in kinds):
            raise ConfigurationError(
                f"every release raised, the first time {type(failure).__name__}; a target that releases is wanted"
            ) from failure
        if counts:
            self._main = counts.most_common(1)[0][0]
            self.layout = self._layouts[int(kinds[self._main].rsplit(" ", 1)[1])]
            self._width = next(
                len(row) for rows in self._rows for k, row in rows if k == self._main and row is not None
            )
        if 16 * n * self._width > _MOST_BYTES:
            raise ConfigurationError(
                f"n={n} releases of {self._width} numbers do not fit into memory; a smaller n, or a target that "
                "returns a part of the numbers, is wanted"
            )


if TYPE_CHECKING:
    _Row = tuple[int, NDArray[np.float64] | None]


def _calibration(claim: _Claim, samples: list[Sample], layout: Any, alpha: float) -> Calibration | None:
    import numpy as np

    if claim.noise is None or claim.exact is None:
        return None
    if any(flat.skeleton != layout for flat in claim.exact):
        raise ConfigurationError(
            "what is released is laid out differently from the exact results, so their noise cannot be compared; "
            "exact=(result, result) as the target would release them without noise is wanted"
        )
    noise = np.concatenate(
        [
            sample.numbers[~np.isnan(sample.numbers).any(axis=1)] - np.concatenate([flat.floats, flat.ints])
            for sample, flat in zip(samples, claim.exact, strict=True)
        ]
    )
    split = claim.exact[0].floats.size
    return calibrate(noise[:, :split].ravel(), noise[:, split:].ravel(), claim.noise, alpha)


def _default_neighbours(mechanism: Mechanism) -> tuple[Any, Any]:
    whole = math.floor(mechanism.sensitivity)
    if mechanism.integers == "discrete" and whole >= 1:
        return [0] * _DIMENSIONS, [whole] + [0] * (_DIMENSIONS - 1)
    return [0.0] * _DIMENSIONS, [mechanism.sensitivity] + [0.0] * (_DIMENSIONS - 1)


def _pair(name: str, given: Any) -> tuple[Any, Any]:
    if not isinstance(given, tuple | list) or len(given) != 2:
        what = "nothing" if given is None else f"{name} of type {type(given).__qualname__}"
        raise ConfigurationError(f"{what} is given, {name}=(one, other) is wanted")
    return given[0], given[1]


def _exact(pair: tuple[Any, Any], noise: Mechanism) -> tuple[Flat, Flat]:
    try:
        one, other = (flatten(value, integers=noise.integers, root="exact") for value in pair)
    except PrivacyError as error:
        raise ConfigurationError(
            f"{error}; to compare the noise, exact=(result, result) as the target would release them without noise is "
            "wanted"
        ) from None
    if one.skeleton != other.skeleton:
        raise ConfigurationError("the two exact results are laid out differently; equal shapes and keys are wanted")
    return one, other


def _check_neighbours(exact: tuple[Flat, Flat] | None, mechanism: Mechanism) -> None:
    import numpy as np

    if exact is None:
        return
    one, other = (np.concatenate([flat.floats, flat.ints]) for flat in exact)
    distance = float(np.linalg.norm(one - other, 2 if mechanism.gaussian else 1))
    if distance > mechanism.sensitivity * (1 + 1e-9):
        raise ConfigurationError(
            f"the neighbours are {distance:g} apart, more than the sensitivity of {mechanism.sensitivity:g} that the "
            "mechanism claims to cover; two inputs within it are wanted"
        )


def _check(n: int, alpha: float, seed: int | None) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 100:
        raise ConfigurationError(f"n={n!r} is given, a whole number of releases from 100 is wanted")
    if not 0 < alpha < 1:
        raise ConfigurationError(f"alpha={alpha!r} is given, a false-alarm rate between 0 and 1 is wanted")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise ConfigurationError(f"seed={seed!r} is given, a whole number from 0 or None is wanted")


def _wanted(claim: _Claim, level: float) -> int:
    n = 200
    while epsilon_bound(n // 2, 0, n // 2, n // 2, claim.delta, level) <= claim.epsilon + 0.5 and n < 1 << 40:
        n *= 2
    return n


def _need_scipy() -> None:
    try:
        import scipy.special  # type: ignore[import-untyped, unused-ignore]  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "an audit needs scipy, which is not installed: pip install 'star-actors[studies]'"
        ) from None
