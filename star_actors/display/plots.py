"""A report as a Matplotlib figure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from star_actors.data.extras import load_extra
from star_actors.errors import ConfigurationError
from star_actors.report import Report

from .formats import duration, size
from .summary import headline
from .timing import NodeTimes, node_times
from .trajectory import Step, pick, trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
else:
    Figure = load_extra("matplotlib.figure", "plots", "report.plot()").Figure

__all__ = ["ReportFigure", "plot"]

_POINTS = 1_000
_NUMBERS = 8
_ACCENT, _QUIET, _BAND = "#0b6b74", "#7a8690", "#d5dbe0"


class ReportFigure(Figure):
    """A figure that notebooks show, also where no Matplotlib backend was set up."""

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=110)
        return data.getvalue()


def plot(report: Report) -> ReportFigure:
    """The numbers of the aggregate, the change per round, node times and bytes, by round.

    Up to 8 numbers and 1,000 rounds are drawn; the figure says where there are more. Raises ConfigurationError where no
    round was finished.
    """
    if not report.rounds:
        raise ConfigurationError("the report has no finished round, so there is nothing to plot")
    total = len(report.rounds)
    steps = trajectory(report.rounds, pick(total, _POINTS, first=50, last=100))
    figure = ReportFigure(figsize=(11, 7), layout="constrained")
    part = f" ({len(steps):,} of {total:,} rounds are drawn)" if len(steps) < total else ""
    figure.suptitle(headline(report) + part, fontsize=12, x=0.01, ha="left")
    panels: Any = figure.subfigures(1, 2)
    left, right = panels
    stack = _draw_values(left, steps)
    change, times, traffic = right.subplots(3, 1)
    _draw_change(change, steps)
    _draw_times(times, node_times(report, _POINTS))
    _draw_bytes(traffic, report, len(steps))
    for axes in (*stack, change, times, traffic):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", integer=True)
    traffic.set_xlabel("round", fontsize=9)
    return figure


def _draw_values(figure: SubFigure, steps: Sequence[Step]) -> list[Axes]:
    """Each number on axes of its own: numbers of one aggregate may differ by any scale."""
    last = steps[-1].numbers
    if last is None:
        axes = figure.subplots()
        _say(axes, "Aggregate", "no number is kept in the aggregate")
        return [axes]
    names = [name for name, _ in last.named(_NUMBERS)]
    found = [(step.number, dict(step.numbers.named(_NUMBERS))) for step in steps if step.numbers is not None]
    stack: list[Axes] = list(figure.subplots(len(names), 1, sharex=True, squeeze=False).flat)
    for name, axes in zip(names, stack, strict=True):
        track = [(number, values[name]) for number, values in found if name in values]
        axes.plot(*zip(*track, strict=True), color=_ACCENT, linewidth=1.2, **_dots(track))
        axes.set_title(name or "aggregate", fontsize=9, loc="left", pad=2)
        axes.locator_params(axis="y", nbins=3)
    of = f", the first {_NUMBERS} of {last.size:,} numbers" if last.size > _NUMBERS else ""
    stack[-1].set_xlabel(f"round{of}", fontsize=9)
    return stack


def _draw_change(axes: Axes, steps: Sequence[Step]) -> None:
    track = [(step.number, step.change) for step in steps if step.change is not None]
    if not track:
        return _say(axes, "Change per round", "nothing to compare with")
    axes.plot(*zip(*track, strict=True), color=_ACCENT, linewidth=1.5, **_dots(track))
    if any(change for _, change in track):
        axes.set_yscale("log", nonpositive="mask")
    axes.set_title("Change per round", fontsize=10, loc="left")
    return None


def _draw_times(axes: Axes, times: NodeTimes | None) -> None:
    if times is None:
        return _say(axes, "Time per node", "node times were not kept")
    buckets = times.buckets
    numbers = [bucket.round for bucket in buckets]
    straggler = [bucket.straggler for bucket in buckets]
    if buckets[0].each:
        for i in range(len(times.ids)):
            if i != times.straggler:
                axes.plot(numbers, [b.each[i] for b in buckets], color=_QUIET, linewidth=0.8, alpha=0.7)
    else:
        axes.fill_between(numbers, [b.fastest for b in buckets], [b.slowest for b in buckets], color=_BAND, lw=0)
        axes.plot(numbers, [b.median for b in buckets], color=_QUIET, linewidth=1, linestyle="--")
    axes.plot(numbers, straggler, color=_ACCENT, linewidth=1.5, **_dots(numbers))
    slow = times.ids[times.straggler]
    axes.annotate(slow, (numbers[-1], straggler[-1]), (4, 0), textcoords="offset points", color=_ACCENT, fontsize=9)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: duration(value))
    axes.set_title(f"Time per node, slowest in all: {slow}", fontsize=10, loc="left")
    return None


def _draw_bytes(axes: Axes, report: Report, limit: int) -> None:
    chosen = [report.rounds[i] for i in pick(len(report.rounds), limit, first=50, last=100)]
    numbers = [r.number for r in chosen]
    axes.plot(numbers, [r.bytes_up for r in chosen], color=_ACCENT, linewidth=1.5, label="up", **_dots(numbers))
    axes.plot(numbers, [r.bytes_down for r in chosen], color=_QUIET, linestyle="--", label="down", **_dots(numbers))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: size(value))
    axes.legend(fontsize=8, frameon=False)
    axes.set_title("Bytes", fontsize=10, loc="left")


def _dots(track: Sequence[Any]) -> dict[str, Any]:
    """Dots where there are so few points that they can be told apart."""
    return {"marker": "o", "markersize": 3} if len(track) <= 40 else {}


def _say(axes: Axes, title: str, why: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, fontsize=9, color=_QUIET)
    axes.set_yticks([])
