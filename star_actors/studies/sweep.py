"""How much does privacy cost me? The error of the released result against epsilon, measured and as theory has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from star_actors.config import RunConfig, configure
from star_actors.display.formats import number
from star_actors.errors import ConfigurationError, NotConvergedError
from star_actors.nodes import StarAggregator, StarAnalyzer
from star_actors.options import Privacy
from star_actors.release.flatten import flatten
from star_actors.release.noise import Mechanism, mechanism_for

from . import table
from .exact import exact_result, without_noise
from .quiet import run_config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from star_actors.display.plots import ReportFigure

__all__ = ["Sweep", "SweepRow", "privacy_sweep"]

_ACCENT, _QUIET = "#0b6b74", "#7a8690"


@dataclass(frozen=True)
class SweepRow:
    """The error at one `epsilon` a release: of each number of the result, absolute, in the result's own unit.

    `scale` is the mechanism's noise scale. `mean` is over all numbers and repeats; `median` and `high` (the 95th
    percentile) are over repeats, of the mean over the numbers. `expected` is the mean that theory has, None where it
    has none. `repeats` were released; `failed` did not converge, or ran out of rounds or time, and are in no other
    figure: all figures are NaN where none was released.
    """

    epsilon: float
    scale: float
    mean: float
    median: float
    high: float
    expected: float | None
    repeats: int
    failed: int = 0


@dataclass(frozen=True)
class Sweep:
    """Error against epsilon: `rows`, in the order of the epsilons; `privacy` holds everything else that was asked for.

    `numbers` is how many numbers the result has, `typical` the mean of their sizes: what the error is to be held
    against. Both come from the exact result, so a sweep is a rehearsal, not to be published where the data are private.
    """

    rows: tuple[SweepRow, ...]
    privacy: Privacy
    numbers: int
    typical: float

    def plot(self) -> ReportFigure:
        """A Matplotlib figure: the error over epsilon, both on log axes, and the theoretical curve beside it.

        Needs the extra `plots`; raises ConfigurationError where it is missing. No window is opened.
        """
        from star_actors.display.plots import ReportFigure

        rows = sorted((row for row in self.rows if row.repeats), key=lambda row: row.epsilon)
        if not rows:
            raise ConfigurationError("no repeat of any epsilon was released, so there is nothing to plot")
        figure = ReportFigure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        epsilons = [row.epsilon for row in rows]
        axes.plot(epsilons, [row.mean for row in rows], "o-", color=_ACCENT, label="measured, mean")
        axes.plot(epsilons, [row.high for row in rows], ":", color=_ACCENT, label="measured, 95th percentile")
        theory = [(row.epsilon, row.expected) for row in rows if row.expected is not None]
        if theory:
            axes.plot(*zip(*theory, strict=True), "--", color=_QUIET, label="expected of the noise")
        if self.typical > 0:
            axes.axhline(self.typical, color=_QUIET, linewidth=0.8, label="mean size of a number of the result")
        axes.set_xscale("log")
        axes.set_yscale("log", nonpositive="mask")
        axes.set_xlabel("epsilon of a release")
        axes.set_ylabel("absolute error of a number")
        axes.set_title(self._title(), fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
        return figure

    def __str__(self) -> str:
        return table.as_text(self._title(), *self._table())

    def _repr_html_(self) -> str:
        return table.as_html(self._title(), *self._table())

    def _title(self) -> str:
        family = "Laplace" if self.privacy.delta is None else f"Gaussian (delta={self.privacy.delta:g})"
        many = "one number" if self.numbers == 1 else f"{self.numbers:,} numbers"
        return (
            f"error of {many} by epsilon: {family} noise at {self.privacy.noise_at}, sensitivity "
            f"{self.privacy.sensitivity:g}"
        )

    def _table(self) -> tuple[list[str], list[list[str]], list[str]]:
        head = ["epsilon", "noise scale", "mean error", "expected", "median", "95 %", "repeats"]
        rows = [
            [
                number(row.epsilon),
                *(number(value, 4) for value in (row.scale, row.mean)),
                "" if row.expected is None else number(row.expected, 4),
                *(number(value, 4) for value in (row.median, row.high)),
                str(row.repeats),
            ]
            for row in self.rows
        ]
        notes = [f"mean size of a number of the exact result: {number(self.typical, 4)}"]
        failed = sum(row.failed for row in self.rows)
        if failed:
            notes.append(f"{failed:,} runs did not end in a result, and are in none of these figures")
        return head, rows, notes


def privacy_sweep(
    data_splits: Sequence[Any],
    analyzer: type[StarAnalyzer],
    aggregator: type[StarAggregator],
    data_type: Literal["fhir", "s3"],
    query: str | list[str] | None = None,
    simple_analysis: bool = True,
    *,
    epsilons: Sequence[float],
    repeats: int = 200,
    seed: int | None = None,
    sensitivity: float | None = None,
    delta: float | None = None,
    privacy: Privacy | None = None,
    progress: Callable[[int, int], None] | None = None,
    multiple_results: bool = False,
    engine: Any = "serial",
    **arguments: Any,
) -> Sweep:
    """Release a result many times at each epsilon, and measure how far it is from the exact one.

    Arguments:
        data_splits, analyzer, ..., arguments: as StarModelTester takes them; nothing is printed, no file is written.
        epsilons: the epsilons of one release to try.
        repeats: releases for each of them. The mean error of Laplace noise is then known to 1 part in sqrt(repeats).
        seed: of the runs, as in StarModelTester; privacy noise is never seeded.
        sensitivity, delta: what Privacy takes; or a whole `privacy`, whose epsilon and budget are not looked at.
        progress: called as `progress(done, total)`.

    With noise at the end the analysis runs once, and only the noise is drawn again and again; with `noise_at` elsewhere
    every repeat is a whole run. The error is measured from the result without noise and without clipping, so the bias
    of clipping is in it; what is expected is of the noise alone, and only known where one draw ends up in the result.

    Raises ConfigurationError for arguments that do not go together, PrivacyError where noise cannot be added to the
    result, and what the exact run raises.
    """
    plans = _plans(epsilons, sensitivity, delta, privacy)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise ConfigurationError(f"repeats={repeats!r} is given, a whole number from 1 is wanted")
    config = configure(
        data_splits,
        analyzer,
        aggregator,
        data_type,
        query,
        simple_analysis,
        multiple_results=multiple_results,
        engine=engine,
        seed=seed,
        privacy=plans[0],
        **arguments,
    )
    config = replace(config, paths=None)
    mechanisms = [mechanism_for(plan) for plan in plans]
    exact, _ = exact_result(without_noise(config, clip=False))
    apart = multiple_results and plans[0].noise_at == "final"
    source = _Source(config, exact, apart)
    rows = []
    for at, (plan, mechanism) in enumerate(zip(plans, mechanisms, strict=True)):
        errors = []
        for repeat in range(repeats):
            error = source.error(plan, mechanism)
            if error is not None:
                errors.append(error)
            if progress is not None:
                progress(at * repeats + repeat + 1, len(plans) * repeats)
        rows.append(_row(plan, mechanism, errors, repeats, source.expected(mechanism)))
    truth = source.truth
    typical = float(abs(truth).mean())
    return Sweep(tuple(rows), replace(plans[0], budget=None), int(truth.size), typical)


class _Source:
    """Released results, and how far each is from the exact one."""

    def __init__(self, config: RunConfig, exact: Any, apart: bool) -> None:
        self._config = config
        self._whole_runs = config.privacy is not None and config.privacy.noise_at != "final"
        self._apart = apart and isinstance(exact, list | tuple)
        self.truth = _numbers(exact)
        self._integers = 0 if self._whole_runs else _discrete(exact, config.privacy)
        self._clipped = exact
        if config.privacy is not None and config.privacy.clip is not None and not self._whole_runs:
            self._clipped, _ = exact_result(without_noise(config))

    def error(self, plan: Privacy, mechanism: Mechanism) -> float | None:
        """The mean absolute error of one release over its numbers; None where there was none."""
        if self._whole_runs:
            try:
                released = run_config(replace(self._config, privacy=replace(plan, budget=None))).result
            except NotConvergedError:
                return None
        elif self._apart:
            released = [mechanism.noise(element) for element in self._clipped]
        else:
            released = mechanism.noise(self._clipped)
        numbers = _numbers(released)
        if numbers.shape != self.truth.shape:
            raise ConfigurationError(
                f"a released result has {numbers.size} numbers and the exact one {self.truth.size}, so there is no "
                "error to measure; a result of one length is wanted"
            )
        return float(abs(numbers - self.truth).mean())

    def expected(self, mechanism: Mechanism) -> float | None:
        """The mean absolute error that the noise alone makes; None where more than one draw is in the result."""
        privacy = self._config.privacy
        if self._whole_runs and not (
            privacy is not None and privacy.noise_at == "broadcast" and self._config.simple_analysis
        ):
            return None
        size = self.truth.size
        return (
            self._integers * _expected(mechanism, True) + (size - self._integers) * _expected(mechanism, False)
        ) / size


def _expected(mechanism: Mechanism, integers: bool) -> float:
    """The mean of the absolute noise on one number."""
    scale = mechanism.scale
    if not mechanism.gaussian:
        # Discrete: P(k) = tanh(1 / 2b) exp(-|k| / b), whose mean absolute value is 1 / sinh(1 / b).
        if not integers:
            return scale
        return 0.0 if 1 / scale > 700 else 1 / math.sinh(1 / scale)
    if not integers or scale > 1e3:
        return scale * math.sqrt(2 / math.pi)
    reach = math.ceil(40 * scale) + 1
    weights = [math.exp(-0.5 * (k / scale) ** 2) for k in range(1, reach)]
    return 2 * math.fsum(k * w for k, w in enumerate(weights, 1)) / (1 + 2 * math.fsum(weights))


def _row(plan: Privacy, mechanism: Mechanism, errors: list[float], repeats: int, expected: float | None) -> SweepRow:
    import numpy as np

    mean = median = high = math.nan
    if errors:
        mean, median, high = float(np.mean(errors)), float(np.median(errors)), float(np.quantile(errors, 0.95))
    return SweepRow(
        epsilon=float(plan.epsilon),
        scale=mechanism.scale,
        mean=mean,
        median=median,
        high=high,
        expected=expected,
        repeats=len(errors),
        failed=repeats - len(errors),
    )


def _plans(
    epsilons: Sequence[float], sensitivity: float | None, delta: float | None, privacy: Privacy | None
) -> list[Privacy]:
    if isinstance(epsilons, str | bytes) or not hasattr(epsilons, "__len__") or not len(epsilons):
        raise ConfigurationError(f"epsilons={epsilons!r} is given, a list with at least one epsilon is wanted")
    if privacy is not None:
        if not isinstance(privacy, Privacy):
            raise ConfigurationError(f"privacy={privacy!r} is given, Privacy(...) is wanted")
        if sensitivity is not None or delta is not None:
            raise ConfigurationError(
                "privacy=Privacy(...) and sensitivity or delta are both given: they say the same, give one of them"
            )
        return [replace(privacy, epsilon=epsilon) for epsilon in epsilons]
    if sensitivity is None:
        raise ConfigurationError("no sensitivity is given; sensitivity=, or privacy=Privacy(...), is wanted")
    return [Privacy(epsilon=epsilon, sensitivity=sensitivity, delta=delta) for epsilon in epsilons]


def _discrete(exact: Any, privacy: Privacy | None) -> int:
    """How many numbers get integer noise."""
    return 0 if privacy is None else int(flatten(exact, integers=privacy.integers).ints.size)


def _numbers(value: Any) -> NDArray[np.float64]:
    flat = flatten(value)
    return flat.floats
