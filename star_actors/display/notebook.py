"""A report in a notebook: a short form of the page that takes the notebook's own colours, light or dark."""

from __future__ import annotations

from star_actors.report import Report

from .chart_sections import change_chart
from .formats import count, duration, shown, size
from .frames import text
from .noticed import grouped
from .sections import round_rows
from .summary import FEW, FIRST, LAST, headline
from .trajectory import pick, trajectory

__all__ = ["STYLE", "as_html"]

_POINTS = 200
_NOTES = 10

# A notebook's theme is not the system's, so nothing here has a colour but the accent, which stands on both.
STYLE = """<style>
.star-report { line-height: 1.45; font-variant-numeric: tabular-nums; max-width: 60rem; }
.star-report p { margin: 0 0 .35rem; }
.star-report .lead { font-size: 1.15em; font-weight: 600; }
.star-report .quiet { opacity: .7; }
.star-report .lines { white-space: pre-line; }
.star-report pre { margin: .35rem 0; padding: 0; background: none; white-space: pre-wrap; color: inherit; }
.star-report table { border-collapse: collapse; margin: .35rem 0; font-size: .92em; color: inherit; }
.star-report tr { background: none !important; }
.star-report th, .star-report td {
  padding: .1rem 1rem .1rem 0; text-align: left; font-weight: 400; white-space: nowrap; color: inherit; border: 0;
}
.star-report thead th { opacity: .7; }
.star-report .n { text-align: right; }
.star-report .canvas { display: flex; max-width: 44rem; }
.star-report .axis { flex: none; }
.star-report .track { flex: 1; min-width: 0; }
.star-report .plot, .star-report .shapes { overflow: visible; }
.star-report .canvas text { fill: currentColor; opacity: .7; font-size: 11px; }
.star-report .grid { stroke: currentColor; opacity: .15; }
.star-report .shapes path {
  fill: none; stroke: #1a8a94; stroke-width: 1.75; stroke-linejoin: round; vector-effect: non-scaling-stroke;
}
.star-report .spark { display: inline-block; width: 18em; height: 1.6em; vertical-align: middle; }
.star-report .spark path { fill: none; stroke: #1a8a94; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
</style>"""


def as_html(report: Report) -> str:
    """A report as a fragment of HTML that holds its own style, and nothing that runs or is fetched."""
    up, down = sum(r.bytes_up for r in report.rounds), sum(r.bytes_down for r in report.rounds)
    facts = [duration(report.seconds), count(len(report.nodes), "node"), f"{size(up)} up, {size(down)} down"]
    parts = [f'<p><span class="lead">{text(headline(report))}</span> <span class="quiet">{", ".join(facts)}</span></p>']
    if report.failure is not None:
        parts.append(f"<p><code>{text(report.failure)}</code></p>")
    if report.rounds or report.stop_reason is not None:
        found = report.diagnosis
        parts.append(f'<p>{text(found.text)} <span class="quiet">{text(found.advice)}</span></p>')
    if report.result is not None or report.outputs:
        parts.append(f"<pre>{text(shown(report.result, 500))}</pre>")
    if report.privacy is not None:
        parts.append("".join(f"<p>{text(line.strip())}</p>" for line in str(report.privacy).splitlines()))
    parts += [_chart(report), _rounds(report), _noticed(report)]
    return f'{STYLE}<div class="star-report">{"".join(parts)}</div>'


def _chart(report: Report) -> str:
    steps = trajectory(report.rounds, pick(len(report.rounds), _POINTS, first=20, last=60))
    changed = [step for step in steps if step.change is not None]
    if len(changed) < 2 or not any(step.change for step in changed):
        return ""
    axis, plot = change_chart(changed).svg()
    return f'<p class="quiet">change per round</p><div class="canvas">{axis}<div class="track">{plot}</div></div>'


def _rounds(report: Report) -> str:
    total = len(report.rounds)
    if not total:
        return ""
    few = total <= FEW
    head, rows = round_rows(report, FEW if few else FIRST, 0 if few else LAST)
    if not few:
        rows.insert(FIRST, f'<tr><td class="quiet" colspan="8">{total - FIRST - LAST:,} more</td></tr>')
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _noticed(report: Report) -> str:
    groups, more = grouped(report.findings)
    lines = [f'<b>warning</b> <span class="lines">{text(warning)}</span>' for warning in report.warnings[:_NOTES]]
    lines += [f"<b>{text(g.kind)}</b> {text(g.message)}; {text(g.advice)}" for g in groups[:_NOTES]]
    more += max(0, len(report.warnings) - _NOTES) + max(0, len(groups) - _NOTES)
    if more:
        lines.append(f"and {more:,} more")
    return "".join(f"<p>{line}</p>" for line in lines)
