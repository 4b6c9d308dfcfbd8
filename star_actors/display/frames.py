"""What the page is put together from: sections, tables, charts. Text from a run passes through `text`."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

from .charts import Chart
from .formats import visible

__all__ = ["drawn", "figure", "head", "row", "section", "table", "text"]


def text(value: object) -> str:
    """Escaped for HTML, with control characters written out."""
    return html.escape(visible(str(value)))


def section(title: str, body: str) -> str:
    """A section with a heading of its own."""
    name = title.lower()
    return f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{title}</h2>{body}</section>'


def figure(title: str, note: str, chart: Chart, rounds: Sequence[int], readouts: Sequence[str]) -> str:
    """A chart over `rounds` with one line of words for each of them, which the keyboard and the pointer walk along."""
    axis, plot = chart.svg()
    data = _json({"x": chart.positions(rounds), "t": [visible(words) for words in readouts]})
    last = text(readouts[-1])
    return (
        f'<figure class="chart"><figcaption><b>{title}</b> <span class="quiet">{text(note)}</span></figcaption>'
        f'<div class="canvas">{axis}<div class="track" tabindex="0" role="slider" aria-label="{title}: round" '
        f'aria-valuemin="0" aria-valuemax="{len(rounds) - 1}" aria-valuenow="{len(rounds) - 1}" '
        f'aria-valuetext="{last}">{plot}</div></div><p class="readout">{last}</p>'
        f'<script type="application/json">{data}</script></figure>'
    )


def table(title: str, head: str, rows: Sequence[str]) -> str:
    """A table that scrolls sideways by itself where the screen is narrow; `head` and `rows` are its rows."""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table><thead>{head}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def head(names: Sequence[str], numeric: str) -> str:
    """The first row of a table; `numeric` has one character a column, "n" where it holds numbers."""
    cells = (f'<th scope="col"{_class(kind)}>{name}</th>' for name, kind in zip(names, numeric, strict=True))
    return f"<tr>{''.join(cells)}</tr>"


def row(cells: Sequence[str], numeric: str, *, marked: bool = False) -> str:
    """A row of a table, its first cell a heading. The cells are HTML already."""
    first, *rest = (f"{_class(kind)}>{cell}<" for cell, kind in zip(cells, numeric, strict=True))
    inner = "".join(f"<td{cell}/td>" for cell in rest)
    return f'<tr{" class=marked" if marked else ""}><th scope="row"{first}/th>{inner}</tr>'


def drawn(points: int, total: int) -> str:
    """A note, where not every round is drawn."""
    return f'<p class="quiet">{points:,} of {total:,} rounds are drawn.</p>' if points < total else ""


def _class(kind: str) -> str:
    return ' class="n"' if kind == "n" else ""


def _json(value: object) -> str:
    """JSON that can stand inside of a script element, whatever text it holds."""
    dumped = json.dumps(value, separators=(",", ":"))
    return dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
