"""What a run tells: a table of ratios, the times behind it, the aims, a chart, and the raw numbers."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .aims import Verdict
from .contenders import CONTENDERS
from .measurement import Measurement
from .running import Results
from .workloads import from_dict

__all__ = ["draw", "tables", "verdict_table", "write"]

Cell = tuple[float, float, float]
"""Median, least and most of the repeats."""


def tables(results: Results) -> str:
    """The run as Markdown: ratios to the ideal, then times, first rounds and memory."""
    cases, names = _cases(results), _names(results)
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    parts = [
        f"{results.machine}, {results.cores} cores, load {results.load[0]:.1f} before and {results.load[1]:.1f} after. "
        f"{versions}. Medians of the repeats, (least to most).",
        "**Times the ideal**, contender and bare loop taken in the same repeat. The ideal is the bare serial loop; on "
        "W2 and W3 that loop divided by the cores, on W4 the 0.05 s that each node sleeps.",
        _table(cases, names, lambda name, case: _cell(_ratios(results, name, case), _number)),
        "**Microseconds per node and round.**",
        _table(cases, names, lambda name, case: _cell(_each(results, name, case, _per_node), _number)),
        "**Seconds from the start of the process to the end of the first round.**",
        _table(cases, names, lambda name, case: _cell(_each(results, name, case, lambda m: m.first_round), _number)),
        "**Most memory of all its processes in MB**, shared pages counted once.",
        _table(cases, names, lambda name, case: _cell(_each(results, name, case, _memory), _whole)),
    ]
    notes = [f"- {name}: {why}" for name, why in results.left_out.items()]
    notes += [f"- {case}, {name}: {why}" for case, unfit in results.unfit.items() for name, why in unfit.items()]
    faults = {f"- {_case(m)}, {m.contender}: {m.fault}": None for m in results.measurements if m.fault is not None}
    if faults:
        parts.append("Failed:\n\n" + "\n".join(faults))
    if notes:
        parts.append("Not measured:\n\n" + "\n".join(notes))
    return "\n\n".join(parts) + "\n"


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """The aims as Markdown."""
    rows = [["aim", "bound", "median (least to most)", "noise", ""]]
    for verdict in verdicts:
        aim = verdict.aim
        sign = "at least" if aim.at_least else "under" if aim.below else "at most"
        measured = verdict.state != "not measured" and not verdict.why
        rows.append(
            [
                aim.text,
                f"{sign} {aim.bound:g} {aim.unit}".strip(),
                _spelled((verdict.median, verdict.low, verdict.high), _number) if measured else "",
                _number(verdict.noise) if measured else "",
                verdict.state + (f": {verdict.why}" if verdict.why else ""),
            ]
        )
    return _markdown(rows)


def write(results: Results, verdicts: Sequence[Verdict], folder: Path) -> list[Path]:
    """Write `raw.json`, `table.md` and, where matplotlib is installed, `chart.png`; return what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    raw, table, chart = folder / "raw.json", folder / "table.md", folder / "chart.png"
    raw.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    table.write_text(f"{tables(results)}\n**Aims.**\n\n{verdict_table(verdicts)}\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is None:
        return [raw, table]
    draw(results, chart)
    return [raw, table, chart]


def draw(results: Results, path: Path) -> None:
    """Draw per-node cost and memory against the number of nodes (W1), and the ratios on the other workloads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9), layout="constrained")
    FigureCanvasAgg(figure)
    cases = _cases(results)
    sized = [case for case in cases if case.startswith("W1 ")]
    others = [case for case in cases if not case.startswith(("W1 ", "W6 "))]
    grid = figure.add_gridspec(2 if sized and others else 1, 2)
    if sized:
        _against_nodes(results, sized, figure.add_subplot(grid[0, 0]), _per_node, "cost of a node-round", "µs")
        _against_nodes(results, sized, figure.add_subplot(grid[0, 1]), _memory, "memory of all processes", "MB")
    if others:
        _bars(results, others, figure.add_subplot(grid[-1, :]))
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    if entries:
        figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=5, fontsize="small")
    figure.savefig(path, dpi=120)


def _against_nodes(
    results: Results,
    cases: Sequence[str],
    axes: Any,
    what: Callable[[Measurement], float | None],
    title: str,
    unit: str,
) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for name in _names(results):
        points = [(int(case.split("=")[1]), values) for case in cases if (values := _each(results, name, case, what))]
        if not points:
            continue
        sizes, medians = [n for n, _ in points], [statistics.median(values) for _, values in points]
        below = [median - min(values) for median, (_, values) in zip(medians, points, strict=True)]
        above = [max(values) - median for median, (_, values) in zip(medians, points, strict=True)]
        axes.errorbar(sizes, medians, yerr=(below, above), label=CONTENDERS[name].title, capsize=2, **_style(name))
    axes.set(title=f"W1: {title}", xlabel="nodes", ylabel=unit, xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    if high < 30 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.grid(visible=True, which="major", alpha=0.3)


def _bars(results: Results, cases: Sequence[str], axes: Any) -> None:
    names = [name for name in _names(results) if any(_ratios(results, name, case) for case in cases)]
    width = 0.85 / max(1, len(names))
    for place, name in enumerate(names):
        xs, medians, below, above = [], [], [], []
        for group, case in enumerate(cases):
            if values := _ratios(results, name, case):
                median = statistics.median(values)
                xs.append(group + (place - (len(names) - 1) / 2) * width)
                medians.append(median)
                below.append(median - min(values))
                above.append(max(values) - median)
        color = _style(name)["color"]
        label, error = CONTENDERS[name].title, {"linewidth": 1}
        axes.bar(xs, medians, width, yerr=(below, above), color=color, capsize=2, error_kw=error, label=label)
        for x, median, more in zip(xs, medians, above, strict=True):
            top = median + more
            axes.annotate(
                f"{median:.3g}", (x, top), ha="center", va="bottom", fontsize="x-small", rotation=90,
                xytext=(0, 5), textcoords="offset points",
            )  # fmt: skip
    axes.axhline(1, color="black", linewidth=0.8)
    titles = {_case(m): from_dict(m.workload).title for m in results.measurements}
    axes.set_xticks(range(len(cases)), [f"{case}\n{titles[case]}" for case in cases], fontsize="small")
    axes.set(
        title="Times the ideal: the serial loop; over the cores on W2 and W3, one node's sleep on W4", yscale="log"
    )
    axes.margins(y=0.15)


def _style(name: str) -> dict[str, Any]:
    order = list(CONTENDERS)
    kind = CONTENDERS[name].kind
    colors = ["black", "dimgray", *(f"C{number}" for number in (9, 8, 3, 1, 4, 5, 6, 0, 2, 7)), "olive"]
    color = colors[order.index(name)]
    line = {"yardstick": ":", "actors": "-.", "framework": "--", "ours": "-"}[kind]
    return {"color": color, "linestyle": line, "marker": "o" if kind == "ours" else ".", "linewidth": 1.4}


def _cases(results: Results) -> list[str]:
    return list(dict.fromkeys(_case(m) for m in results.measurements))


def _names(results: Results) -> list[str]:
    measured = {m.contender for m in results.measurements}
    return [name for name in CONTENDERS if name in measured]


def _case(measurement: Measurement) -> str:
    return from_dict(measurement.workload).case


def _per_node(measurement: Measurement) -> float | None:
    return None if measurement.seconds is None else measurement.seconds / measurement.workload["n"] * 1e6


def _memory(measurement: Measurement) -> float | None:
    return measurement.memory / 1e6 or None


def _each(results: Results, name: str, case: str, what: Callable[[Measurement], float | None]) -> list[float]:
    found = (what(m) for m in results.measurements if m.contender == name and _case(m) == case and m.fault is None)
    return [value for value in found if value is not None]


def _ratios(results: Results, name: str, case: str) -> list[float]:
    of_case = [m for m in results.measurements if _case(m) == case and m.fault is None and m.seconds is not None]
    bare = {m.repeat: m.seconds for m in of_case if m.contender == "bare"}
    found = []
    for m in of_case:
        yardstick = bare.get(m.repeat)
        if m.contender == name and yardstick is not None and m.seconds is not None:
            found.append(m.seconds / from_dict(m.workload).ideal(yardstick, results.cores))
    return found


def _cell(values: Sequence[float], spell: Callable[[float], str]) -> str:
    return _spelled((statistics.median(values), min(values), max(values)), spell) if values else ""


def _spelled(cell: Cell, spell: Callable[[float], str]) -> str:
    median, low, high = map(spell, cell)
    return median if low == median == high else f"{median} ({low} to {high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _table(cases: Sequence[str], names: Sequence[str], cell: Callable[[str, str], str]) -> str:
    rows = [["", *cases], *([CONTENDERS[name].title, *(cell(name, case) for case in cases)] for name in names)]
    return _markdown([row for row in rows if any(row[1:])])


def _markdown(rows: Sequence[Iterable[str]]) -> str:
    head, *body = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, body)])
