"""Small charts as SVG text: they stretch with the page, take its colours, and keep their type size on a phone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

__all__ = ["Chart", "Line", "bar", "spark"]

_TOP, _HEIGHT, _FOOT = 10, 150, 24
_GUTTER = 68

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its points (round, value), and how it is drawn; "band" fills between its points and `low`."""

    points: Sequence[Point]
    style: Literal["accent", "quiet", "dashed", "band"] = "accent"
    low: Sequence[Point] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over the rounds of a run.

    `description` is what a screen reader says; `ticks` formats a value on the vertical axis, `log` makes that axis
    logarithmic (zeros are not drawn then); `marks` are dots.
    """

    description: str
    lines: Sequence[Line]
    ticks: Callable[[float], str]
    marks: Sequence[Point] = ()
    log: bool = False

    def svg(self) -> tuple[str, str]:
        """The labels of the vertical axis, and the plot, as two SVG elements to be set side by side."""
        y = _log_scale(self._values()) if self.log else _linear_scale(self._values())
        x = _Span(*_bounds([point[0] for line in self.lines for point in line.points]))
        height = _TOP + _HEIGHT + _FOOT
        labels, grid = [], []
        for tick in y.ticks:
            at = f"{_TOP + _HEIGHT * (1 - y(tick)):.1f}"
            labels.append(f'<text x="{_GUTTER - 8}" y="{at}" dy="0.32em" text-anchor="end">{self.ticks(tick)}</text>')
            grid.append(f'<line x1="0" x2="100%" y1="{at}" y2="{at}" class="grid"/>')
        foot = _TOP + _HEIGHT + 17
        for tick in x.ends():
            anchor = "start" if x(tick) == 0 else "end" if x(tick) == 1 else "middle"
            grid.append(f'<text x="{100 * x(tick):.2f}%" y="{foot}" text-anchor="{anchor}">{tick:,.0f}</text>')
        shapes = "".join(_shape(line, x, y, log=self.log) for line in self.lines)
        dots = "".join(
            f'<circle cx="{100 * x(a):.2f}%" cy="{_TOP + _HEIGHT * (1 - y(b)):.1f}" r="3.5" class="dot"/>'
            for a, b in self.marks
        )
        axis = f'<svg class="axis" width="{_GUTTER}" height="{height}" aria-hidden="true">{"".join(labels)}</svg>'
        plot = (
            f'<svg class="plot" width="100%" height="{height}" role="img" aria-label="{escape(self.description)}">'
            f'{"".join(grid)}<svg y="{_TOP}" width="100%" height="{_HEIGHT}" viewBox="0 0 1000 1000" '
            f'preserveAspectRatio="none" class="shapes">{shapes}</svg>{dots}'
            f'<line class="cursor" y1="{_TOP}" y2="{_TOP + _HEIGHT}" x1="0" x2="0" visibility="hidden"/></svg>'
        )
        return axis, plot

    def positions(self, rounds: Sequence[float]) -> list[float]:
        """Where rounds stand on the horizontal axis, in percent."""
        x = _Span(*_bounds([point[0] for line in self.lines for point in line.points]))
        return [round(100 * x(number), 2) for number in rounds]

    def _values(self) -> list[float]:
        values = [point[1] for line in self.lines for point in (*line.points, *line.low)]
        return [value for value in values if math.isfinite(value) and (value > 0 or not self.log)]


def spark(points: Sequence[Point], label: str) -> str:
    """A line the size of a word."""
    finite = [point for point in points if math.isfinite(point[1])]
    if len(finite) < 2:
        return ""
    x, y = _Span(*_bounds([point[0] for point in finite])), _Span(*_bounds([point[1] for point in finite]))
    path = _path([(1000 * x(a), 1000 * (1 - y(b))) for a, b in finite])
    return (
        '<svg class="spark" viewBox="0 -60 1000 1120" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><path d="{path}" class="accent"/></svg>'
    )


def bar(share: float) -> str:
    """A bar that fills a share of its width."""
    return (
        '<svg class="bar" aria-hidden="true"><rect width="100%" height="100%" class="rail"/>'
        f'<rect width="{100 * min(max(share, 0.0), 1.0):.1f}%" height="100%" class="fill"/></svg>'
    )


class _Span:
    """Maps numbers from `low` to `high` to 0 to 1; everything to the middle where the two are the same."""

    def __init__(self, low: float, high: float, ticks: Sequence[float] = ()) -> None:
        self.low, self.high, self.ticks = low, high, ticks

    def __call__(self, value: float) -> float:
        # Halves first: the difference of two very large numbers may be none.
        width = self.high / 2 - self.low / 2
        return (value / 2 - self.low / 2) / width if width else 0.5

    def ends(self) -> list[float]:
        if self.high == self.low:
            return [self.low]
        return [self.low, *([(self.low + self.high) // 2] if self.high - self.low >= 4 else []), self.high]


class _Log(_Span):
    def __call__(self, value: float) -> float:
        return super().__call__(math.log10(value))


def _linear_scale(values: Sequence[float]) -> _Span:
    high = max(values, default=1.0) or 1.0
    if high > 1e307:  # a round number above it may be none
        return _Span(0.0, high, [0.0, high])
    step = 10.0 ** math.floor(math.log10(high / 3)) if high / 3 > 0 else high
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if factor * step * 4 >= high)
    ticks = [i * step for i in range(math.ceil(high / step - 1e-9) + 1)]
    return _Span(0.0, ticks[-1], ticks)


def _log_scale(values: Sequence[float]) -> _Span:
    low, high = _bounds([math.log10(value) for value in values] or [0.0])
    low, high = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    high = max(high, low + 1)
    step = -(-(high - low) // 4)
    ticks = [10.0**exponent for exponent in range(low, high + 1, step) if -307 <= exponent <= 308]
    return _Log(low, high, ticks)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)


def _shape(line: Line, x: _Span, y: _Span, *, log: bool) -> str:
    def placed(points: Sequence[Point]) -> list[Point | None]:
        return [
            (1000 * x(a), 1000 * (1 - y(b))) if math.isfinite(b) and (b > 0 or not log) else None for a, b in points
        ]

    points = placed(line.points)
    if line.style == "band":
        outline = [point for point in (*points, *reversed(placed(line.low))) if point is not None]
        return f'<path d="{_path(outline)}Z" class="band"/>' if outline else ""
    return f'<path d="{_path(points)}" class="{line.style}"/>'


def _path(points: Sequence[Point | None]) -> str:
    """Path data; a None is a gap. A point on its own is drawn as a short stroke."""
    parts = []
    for i, point in enumerate(points):
        if point is None:
            continue
        starts = i == 0 or points[i - 1] is None
        parts.append(f"{'M' if starts else 'L'}{point[0]:.1f} {point[1]:.1f}")
        if starts and (i + 1 == len(points) or points[i + 1] is None):
            parts.append("h0.1")
    return "".join(parts)
