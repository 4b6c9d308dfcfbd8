"""The noise mechanisms: Laplace and Gaussian, for floats and for integers, drawn by OpenDP.

OpenDP's samplers are exact: they draw from the stated distribution with no floating-point shortcut, so the low-order
bits of what is released tell nothing (Mironov 2012 shows what they tell otherwise). Its privacy maps round upwards.
OpenDP is imported when a mechanism is made, never before.

Sources: Dwork, McSherry, Nissim and Smith 2006 (Laplace); Bun and Steinke 2016 (zCDP, Gaussian); Canonne, Kamath and
Steinke 2020 (exact discrete samplers, conversion of zCDP to epsilon and delta).
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from star_actors.errors import ConfigurationError, PrivacyError

from .flatten import Flat, Integers, flatten

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

    from star_actors.options import Privacy

__all__ = ["Mechanism", "MechanismName", "Progress", "Stop", "clip_to_norm", "mechanism_for", "zcdp_epsilon"]

MechanismName = Literal["laplace", "discrete laplace", "gaussian", "discrete gaussian"]
Progress = Callable[[int, int], None]
Stop = Callable[[], bool]

_CHUNK = 1024
"""Numbers drawn between two looks at `stop`: 0.03 s of Laplace noise, 0.07 s of Gaussian."""

_SCALES = {
    "float": (sys.float_info.min, 1e300),
    "discrete": (sys.float_info.min, float(1 << 53)),
}
"""Outside of these, noise is subnormal, or overflows the numbers that it is added to."""


@dataclass(frozen=True)
class Mechanism:
    """A noise distribution, and the guarantee that it gives.

    `scale` is Laplace's b or Gauss's sigma, the same for every number. Adding it to a result that one person can move
    by at most `sensitivity` (L1 norm for Laplace, L2 for Gaussian, over all numbers together) costs `epsilon` and, for
    Gaussian noise, `delta`; `rho` is the same cost in zCDP, which composes better (0 for Laplace).
    The discrete ones add integer noise to integers and keep them integers; floats get float noise of the same scale.
    """

    name: MechanismName
    scale: float
    epsilon: float
    delta: float
    sensitivity: float
    rho: float = 0.0

    @property
    def integers(self) -> Integers:
        """What happens to integers: "float" noise makes floats of them, "discrete" noise keeps them."""
        return "discrete" if self.name.startswith("discrete") else "float"

    @property
    def gaussian(self) -> bool:
        """Whether the noise is Gaussian."""
        return self.name.endswith("gaussian")

    def noise(self, value: Any, *, progress: Progress | None = None, stop: Stop | None = None) -> Any:
        """`value` with independent noise on every number in it, in the same nest of containers.

        Shapes, lengths, keys and dtypes stay as they are and are not protected, except that integers become floats
        (integer arrays float64) unless the mechanism is discrete. float16 and float32 get float64 noise and are
        rounded afterwards, as are integers of less than 64 bits; numbers that a dtype cannot hold become the nearest
        one that it can. Both only look at the noised number (post-processing), so the guarantee stays.
        `progress(done, total)` is called after every chunk of numbers, `stop()` asked before it.
        Raises PrivacyError where something in `value` cannot be noised, and where `stop()` says so.
        """
        return self.draw(self.take_apart(value), progress=progress, stop=stop)

    def take_apart(self, value: Any, *, root: str = "result") -> Flat:
        """`value` as the numbers that `draw` adds noise to; raises PrivacyError where there is something else in it.

        Floats so large that the next float lies further away than `sensitivity` are refused: noise may leave them as
        they are. (Two floats within the sensitivity of each other are both accepted or both refused, so this tells
        nothing. Other refusals, such as NaN, may tell something about the result.)
        """
        return flatten(value, integers=self.integers, resolution=2 * self.sensitivity, root=root)

    def draw(self, flat: Flat, *, progress: Progress | None = None, stop: Stop | None = None) -> Any:
        """Add noise to what was taken apart, and put it together again; arguments and errors as in `noise`."""
        import numpy as np

        steps = _Steps(flat.size, progress, stop)
        floats = self._add(flat.floats, "f64", steps).clip(-sys.float_info.max, sys.float_info.max)
        ints = self._add(flat.ints, "i64", steps).astype(np.int64)
        return flat.rebuild(floats, ints)

    def _add(self, numbers: NDArray[Any], atom: Literal["f64", "i64"], steps: _Steps) -> NDArray[Any]:
        import numpy as np

        noised = np.empty_like(numbers)
        if not numbers.size:
            return noised
        measurement = _measurement(self.gaussian, self.scale, atom)
        for start in range(0, numbers.size, _CHUNK):
            steps.before_chunk()
            chunk = numbers[start : start + _CHUNK]
            noised[start : start + _CHUNK] = measurement(chunk.tolist())
            steps.after_chunk(chunk.size)
        return noised


class _Steps:
    """How far a draw has come."""

    def __init__(self, total: int, progress: Progress | None, stop: Stop | None) -> None:
        self._done = 0
        self._total = total
        self._progress = progress
        self._stop = stop

    def before_chunk(self) -> None:
        if self._stop is not None and self._stop():
            raise PrivacyError("the run was stopped before all noise was drawn; nothing was released")

    def after_chunk(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(self._done, self._total)


def mechanism_for(privacy: Privacy) -> Mechanism:
    """The mechanism that `privacy` asks for, with the smallest noise that keeps its promise.

    Laplace: scale = sensitivity / epsilon, widened by rounding steps until OpenDP's own map agrees. Gaussian: the
    smallest scale at which OpenDP's zCDP accounting gives (epsilon, delta). One number is drawn to see that it works.
    Raises ConfigurationError where epsilon and sensitivity do not go together, before anything runs.
    """
    epsilon, sensitivity = float(privacy.epsilon), float(privacy.sensitivity)
    if privacy.delta is None:
        scale = _laplace_scale(privacy, epsilon, sensitivity)
        rho = 0.0
    else:
        scale = _gaussian_scale(privacy, epsilon, sensitivity, float(privacy.delta))
        rho = _rho(scale, sensitivity)
    family = "laplace" if privacy.delta is None else "gaussian"
    name: Any = f"discrete {family}" if privacy.integers == "discrete" else family
    mechanism = Mechanism(name, scale, epsilon, float(privacy.delta or 0.0), sensitivity, rho)
    mechanism.noise([0.0, 0])
    return mechanism


def zcdp_epsilon(rho: float, delta: float) -> float:
    """The epsilon at `delta` that `rho`-zCDP amounts to, by OpenDP's conversion, rounded upwards.

    Infinity where OpenDP has no number for it, which is far beyond any protection (a rho of more than 50,000).
    """
    from opendp.mod import OpenDPException

    if rho == 0:
        return 0.0
    # Unit noise on this distance costs rho; the root may have been rounded down.
    distance = math.sqrt(2 * rho)
    while Fraction(distance) ** 2 < 2 * Fraction(rho):
        distance = math.nextafter(distance, math.inf)
    profile = _opendp().combinators.make_zCDP_to_approxDP(_measurement(True, 1.0, "f64")).map(distance)
    try:
        return float(profile.epsilon(delta))
    except OpenDPException as error:
        if error.variant != "Overflow":
            raise
        return math.inf


def clip_to_norm(
    value: Any, norm: float, p: Literal[1, 2], *, integers: Integers = "float", root: str = "result"
) -> Any:
    """`value` scaled down so that all its numbers together have an L1 norm (`p=1`) or L2 norm (`p=2`) within `norm`.

    What is within it stays as it is. Two clipped values are at most `2 * norm` apart, whatever they were before, which
    enforces a sensitivity instead of believing it (Abadi et al. 2016). Integers become floats, scaled or not, so that
    the type does not tell which; with `integers="discrete"` they stay integers, rounded towards zero.
    Raises PrivacyError where there is something else than numbers in `value`.
    """
    import numpy as np

    flat = flatten(value, integers=integers, root=root)
    numbers = np.concatenate([flat.floats, flat.ints.astype(np.float64)])
    if _within(numbers, norm, p):
        return flat.rebuild(flat.floats, flat.ints)
    largest = float(np.abs(numbers).max())
    # Relative to the largest first: neither the norm nor its squares can overflow.
    shares = numbers / largest
    # The margin covers the rounding of the sum and of the product.
    shares *= norm * (1 - 2**-40) / _norm(shares, p)
    split = flat.floats.size
    return flat.rebuild(shares[:split], np.trunc(shares[split:]).astype(np.int64))


class _OpenDP(NamedTuple):
    combinators: ModuleType
    domains: ModuleType
    measurements: ModuleType
    metrics: ModuleType


@lru_cache(maxsize=1)
def _opendp() -> _OpenDP:
    from opendp import combinators, domains, measurements, metrics
    from opendp.mod import enable_features

    enable_features("contrib")
    return _OpenDP(combinators, domains, measurements, metrics)


def _measurement(gaussian: bool, scale: float, atom: Literal["f64", "i64"]) -> Any:
    # Making one takes half as long as a draw of one number, so they are kept; one a thread, as OpenDP says nothing
    # about sharing them. Any, because their methods are untyped.
    return _made(gaussian, scale, atom, threading.get_ident())


@lru_cache(maxsize=64)
def _made(gaussian: bool, scale: float, atom: Literal["f64", "i64"], _thread: int) -> Any:
    dp = _opendp()
    element = dp.domains.atom_domain(T="f64", nan=False) if atom == "f64" else dp.domains.atom_domain(T="i64")
    metric = dp.metrics.l2_distance if gaussian else dp.metrics.l1_distance
    make = dp.measurements.make_gaussian if gaussian else dp.measurements.make_laplace
    return make(dp.domains.vector_domain(element), metric(T="f64"), scale)


def _rho(scale: float, sensitivity: float) -> float:
    return float(_measurement(True, scale, "f64").map(sensitivity))


def _laplace_scale(privacy: Privacy, epsilon: float, sensitivity: float) -> float:
    scale = _in_range(privacy, sensitivity / epsilon)
    while _measurement(False, scale, "f64").map(sensitivity) > epsilon:
        scale = math.nextafter(scale, math.inf)
    return scale


def _gaussian_scale(privacy: Privacy, epsilon: float, sensitivity: float, delta: float) -> float:
    scale = _in_range(privacy, sensitivity * _multiplier(epsilon, delta))
    step = math.ulp(scale)
    while zcdp_epsilon(_rho(scale, sensitivity), delta) > epsilon:
        scale += step
        step *= 2
    return scale


@lru_cache(maxsize=64)
def _multiplier(epsilon: float, delta: float) -> float:
    """Gaussian noise for a sensitivity of 1, found by bisection over OpenDP's accounting."""
    from opendp.mod import OpenDPException, binary_search_param

    combinators = _opendp().combinators

    def make(scale: float) -> Any:
        zcdp = _measurement(True, scale, "f64")
        return combinators.make_fix_delta(combinators.make_zCDP_to_approxDP(zcdp), delta)

    try:
        return binary_search_param(make, d_in=1.0, d_out=(epsilon, delta))
    except (OpenDPException, ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"epsilon={epsilon!r} with delta={delta!r} is given, for which OpenDP finds no Gaussian noise; an epsilon "
            "between 1e-9 and 1e4 with a delta between 1e-300 and 0.5 is wanted"
        ) from error


def _in_range(privacy: Privacy, scale: float) -> float:
    low, high = _SCALES[privacy.integers]
    if not low <= scale <= high:
        raise ConfigurationError(
            f"epsilon={privacy.epsilon!r} with sensitivity={privacy.sensitivity!r} is given, which makes a noise scale "
            f"of {scale:g}; one between {low:g} and {high:g} is wanted: give the result and its sensitivity in other "
            "units, or change epsilon"
        )
    return scale


def _norm(numbers: NDArray[np.float64], p: Literal[1, 2]) -> float:
    import numpy as np

    if p == 1:
        return math.fsum(np.abs(numbers).tolist())
    return math.sqrt(math.fsum(np.square(numbers).tolist()))


def _within(numbers: NDArray[np.float64], norm: float, p: Literal[1, 2]) -> bool:
    import numpy as np

    largest = float(np.abs(numbers).max())
    if largest > norm:
        return False
    measured = _norm(numbers / norm, p)
    if abs(measured - 1) > 2**-40:
        return measured < 1
    # Too close for floats to tell: exactly, then.
    total = sum((abs(Fraction(x)) ** p for x in numbers.tolist()), Fraction(0))
    return total <= Fraction(norm) ** p
