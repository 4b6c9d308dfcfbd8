"""A report as plain text: what `print(report)` shows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from star_actors.report import Report, Round

from .diagnosis import diagnose
from .formats import amount, count, duration, shown, size, visible
from .noticed import grouped
from .trajectory import aggregate_text, pick, trajectory

if TYPE_CHECKING:
    from .trajectory import Step

__all__ = ["FEW", "FIRST", "LAST", "as_line", "as_text", "headline", "listed_rounds", "slowest"]

_WIDTH = 100
FEW = 12
"""Up to so many rounds are all shown."""
FIRST, LAST = 4, 8
"""Of more, so many of the first and of the last."""


def headline(report: Report) -> str:
    """How the run ended, in a few words."""
    rounds = count(len(report.rounds), "round")
    match report.stop_reason:
        case "single round":
            return "Done in one round"
        case "converged":
            return f"Converged after {rounds}"
        case "max_iterations":
            return f"Not converged after {rounds} (max_iterations)"
        case "timeout":
            return f"Over its time after {rounds}"
        case "stopped":
            return f"Stopped after {rounds}"
        case "budget":
            return f"Privacy budget spent after {rounds}"
        case "failed":
            return f"Failed after {rounds}"
        case _:
            return f"Under way, {rounds} finished" if report.nodes else "Not started"


def as_line(report: Report) -> str:
    """A report in one line, for a prompt."""
    return f"<Report: {headline(report)}, {count(len(report.nodes), 'node')}, {duration(report.seconds)}>"


def as_text(report: Report) -> str:
    """A report as a compact table, with what came of the run and what was noticed below it."""
    up, down = sum(r.bytes_up for r in report.rounds), sum(r.bytes_down for r in report.rounds)
    facts = [headline(report), duration(report.seconds), count(len(report.nodes), "node")]
    blocks = ["  |  ".join([*facts, f"{size(up)} up, {size(down)} down"])]
    if report.failure is not None:
        blocks.append(_wrapped(visible(report.failure)))
    if report.rounds or report.stop_reason is not None:
        blocks.append(_wrapped(str(diagnose(report))))
    if report.rounds:
        blocks.append(_rounds(report))
    blocks.append("\n".join(_outcome(report)))
    blocks += [_noticed(report)] if report.warnings or report.findings else []
    return "\n\n".join(block for block in blocks if block)


def slowest(round: Round) -> tuple[str, float] | None:
    """The node whose own code took longest in a round, and its seconds; None where that is not kept."""
    times = round.node_seconds.items()
    return max(times, key=lambda item: item[1], default=None)


def listed_rounds(rounds: Sequence[Round], first: int, last: int) -> list[tuple[Round, Step]]:
    """The first and the last rounds, with what is measured of their aggregates."""
    chosen = pick(len(rounds), first + last, first=first, last=last)
    return list(zip([rounds[i] for i in chosen], trajectory(rounds, chosen), strict=True))


def _rounds(report: Report) -> str:
    few = len(report.rounds) <= FEW
    listed = listed_rounds(report.rounds, FEW if few else FIRST, 0 if few else LAST)
    rows = [["round", "aggregate", "change", "time", "slowest", "took", "up", "down"]]
    for round, step in listed:
        node = slowest(round)
        rows.append(
            [
                str(round.number),
                aggregate_text(round.aggregate, step.numbers),
                amount(step.change),
                duration(round.seconds),
                "" if node is None else node[0],
                "" if node is None else duration(node[1]),
                size(round.bytes_up),
                size(round.bytes_down),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if not few:
        left_out = len(report.rounds) - len(listed)
        lines.insert(1 + FIRST, f"{'...':>{widths[0]}}  {left_out:,} more")
    return "\n".join(lines)


def _outcome(report: Report) -> list[str]:
    lines = []
    if report.result is not None or report.outputs:
        lines.append(f"result    {shown(report.result)}")
    lines += [f"written   {visible(str(output.path))} ({output.kind})" for output in report.outputs if output.path]
    if report.privacy is not None:
        first, *rest = str(report.privacy).splitlines()
        lines.append(_labelled("privacy", first.removeprefix("privacy: ")))
        lines += [_labelled("", line.strip()) for line in rest]
    for node in report.nodes:
        if node.stuck:
            lines.append(f"stuck     {node.id}: a method never returned, and was left behind")
    return lines


def _noticed(report: Report) -> str:
    lines = [_labelled("warning", warning) for warning in report.warnings]
    groups, more = grouped(report.findings)
    for group in groups:
        at = f" ({group.where})" if group.where else ""
        lines.append(_labelled("finding", f"{group.kind}{at}: {group.message}; {group.advice}"))
    return "\n".join([*lines, *([f"          and {more} more findings"] if more else [])])


def _labelled(label: str, text: str) -> str:
    lines = [textwrap.fill(line, _WIDTH - 10, break_on_hyphens=False) for line in visible(text).splitlines()]
    return f"{label:<10}" + textwrap.indent("\n".join(lines), " " * 10)[10:]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)
