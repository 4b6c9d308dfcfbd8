"""The sections of the page that are words and tables, each as HTML text."""

from __future__ import annotations

from star_actors.report import Report

from .diagnosis import diagnose
from .formats import amount, count, duration, shown, size
from .frames import head, row, section, table, text
from .noticed import grouped
from .summary import headline, listed_rounds, slowest
from .trajectory import aggregate_text

__all__ = ["outcome", "overview", "privacy", "remarks", "round_rows", "rounds"]

_FIRST, _LAST = 50, 150
_FOLDED = 24


def overview(report: Report) -> str:
    """What came of the run, in words and a few figures."""
    up, down = sum(r.bytes_up for r in report.rounds), sum(r.bytes_down for r in report.rounds)
    figures = [
        ("Rounds", f"{len(report.rounds):,}"),
        ("Nodes", f"{len(report.nodes):,}"),
        ("Time", duration(report.seconds)),
        ("A round", duration(sum(r.seconds for r in report.rounds) / len(report.rounds)) if report.rounds else "-"),
        ("Sent up", size(up)),
        ("Sent down", size(down)),
    ]
    found = diagnose(report)
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures)
    said = f'{text(found.text)} <span class="quiet">{text(found.advice)}</span>'
    failed = "" if report.failure is None else f"<p><code>{text(report.failure)}</code></p>"
    return f'<header><h1>{text(headline(report))}</h1>{failed}<p>{said}</p><dl class="figures">{facts}</dl></header>'


def outcome(report: Report) -> str:
    """The released result, and where it went."""
    parts = []
    if report.result is not None or report.outputs:
        parts.append(f"<pre>{text(shown(report.result, 2000))}</pre>")
    parts += [f"<p>Written to <code>{text(o.path)}</code> ({o.kind})</p>" for o in report.outputs if o.path]
    return section("Result", "".join(parts)) if parts else ""


def privacy(report: Report) -> str:
    """What the release cost in privacy, and what no noise protects."""
    if report.privacy is None:
        return ""
    first, *rest = [text(line.strip()) for line in str(report.privacy).splitlines()]
    items = "".join(f"<li>{line}</li>" for line in rest)
    return section("Privacy", f"<p>{first.removeprefix('privacy: ')}</p><ul>{items}</ul>")


def remarks(report: Report) -> str:
    """Warnings and findings."""
    groups, more = grouped(report.findings)
    items = [f'<li><b>Warning</b><br><span class="lines">{text(warning)}</span></li>' for warning in report.warnings]
    for group in groups:
        where = f' <span class="quiet">{text(group.where)}</span>' if group.where else ""
        items.append(f"<li><b>{text(group.kind)}</b>{where}<br>{text(group.message)}; {text(group.advice)}</li>")
    if more:
        items.append(f"<li>and {more:,} more findings, in the JSON file</li>")
    return section("Noticed", f'<ul class="remarks">{"".join(items)}</ul>') if items else ""


def rounds(report: Report) -> str:
    """The rounds as a table; of many, the first and the last."""
    total = len(report.rounds)
    if not total:
        return ""
    few = total <= _FIRST + _LAST
    names, rows = round_rows(report, total if few else _FIRST, 0 if few else _LAST)
    note = "" if few else f"The first {_FIRST} and last {_LAST} of {total:,} rounds; all are in the JSON file."
    body = table("Rounds", names, rows) + (f'<p class="quiet">{note}</p>' if note else "")
    if total > _FOLDED:
        body = f"<details><summary>Show {count(len(rows), 'round')}</summary>{body}</details>"
    return section("Rounds", body)


def round_rows(report: Report, first: int, last: int) -> tuple[str, list[str]]:
    """The head of the table of rounds, and the rows of the `first` and the `last` of them."""
    numeric = "nnnn nnn"
    rows = []
    for round, step in listed_rounds(report.rounds, first, last):
        node = slowest(round)
        cells = [
            f"{round.number:,}",
            text(aggregate_text(round.aggregate, step.numbers)),
            amount(step.change),
            duration(round.seconds),
            "" if node is None else text(node[0]),
            "" if node is None else duration(node[1]),
            size(round.bytes_up),
            size(round.bytes_down),
        ]
        rows.append(row(cells, numeric))
    return head(("round", "aggregate", "change", "time", "slowest", "took", "up", "down"), numeric), rows
