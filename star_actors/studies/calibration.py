"""Is the noise distributed as it is claimed to be?

The empirical distribution function of the noise is compared with the claimed one. By the inequality of Dvoretzky,
Kiefer and Wolfowitz with Massart's constant (1990), a true claim leaves the band with a stated probability at most,
whatever the distribution, discrete ones included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from star_actors.release.noise import Mechanism

__all__ = ["Calibration", "calibrate"]


@dataclass(frozen=True)
class Calibration:
    """The noise beside the claimed distribution: the largest distance between them, and the band it must stay in."""

    distance: float
    band: float
    n: int

    @property
    def passed(self) -> bool:
        """Whether the noise is within the band around what was claimed."""
        return self.distance <= self.band

    def __str__(self) -> str:
        verdict = "within" if self.passed else "OUTSIDE"
        return f"distance {self.distance:.4f} from the claimed distribution, {verdict} the band of {self.band:.4f}"


def calibrate(floats: NDArray[np.float64], ints: NDArray[np.float64], claimed: Mechanism, alpha: float) -> Calibration:
    """Compare noise on floats and noise on integers with what `claimed` says of them.

    The two are tested apart where there are both, sharing `alpha`, the probability that a true claim fails; the one
    that is further out is returned.
    """
    parts = [(part, discrete) for part, discrete in ((floats, False), (ints, True)) if part.size]
    results = []
    for part, discrete in parts:
        band = math.sqrt(math.log(2 * len(parts) / alpha) / (2 * part.size))
        results.append(Calibration(_sup_distance(part, claimed, discrete), band, part.size))
    return max(results, key=lambda result: result.distance / result.band)


def _sup_distance(noise: NDArray[np.float64], claimed: Mechanism, discrete: bool) -> float:
    """The largest distance between the empirical distribution function and the claimed one, on both sides of jumps."""
    import numpy as np

    values, counts = np.unique(noise, return_counts=True)
    upto = np.cumsum(counts) / noise.size
    at, before = _claimed_cdf(values, claimed, discrete)
    return float(max(np.abs(upto - at).max(), np.abs(upto - counts / noise.size - before).max()))


def _claimed_cdf(
    x: NDArray[np.float64], claimed: Mechanism, discrete: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import numpy as np
    from scipy.special import ndtr  # type: ignore[import-untyped, unused-ignore]

    scale = claimed.scale
    if not discrete:
        if claimed.gaussian:
            at = ndtr(x / scale)
        else:
            at = np.where(x < 0, 0.5 * np.exp(np.minimum(x, 0) / scale), 1 - 0.5 * np.exp(-np.maximum(x, 0) / scale))
        return at, at
    if not claimed.gaussian:
        return _discrete_laplace(np.floor(x), scale), _discrete_laplace(np.ceil(x) - 1, scale)
    # Probabilities of whole numbers, far into the tails; for wide noise the sum is the integral.
    if scale > 1e4:
        return ndtr((np.floor(x) + 0.5) / scale), ndtr((np.ceil(x) - 0.5) / scale)
    reach = math.ceil(40 * scale) + 1
    support = np.arange(-reach, reach + 1)
    cumulative = np.append(np.cumsum(np.exp(-0.5 * (support / scale) ** 2)), 0.0)
    cumulative /= cumulative[-2]

    def upto(k: NDArray[np.float64]) -> NDArray[np.float64]:
        return cumulative[np.clip(k + reach, -1, 2 * reach).astype(np.int64)]

    return upto(np.floor(x)), upto(np.ceil(x) - 1)


def _discrete_laplace(k: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    import numpy as np

    below = np.exp(np.minimum(k, 0) / scale) / (1 + math.exp(-1 / scale))
    above = 1 - np.exp(-(np.maximum(k, 0) + 1) / scale) / (1 + math.exp(-1 / scale))
    return np.where(k < 0, below, above)
