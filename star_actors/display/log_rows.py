"""The section of the page that holds the logs: one row a line, the newest that fit, with a form to search them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from star_actors.release.withheld import Withheld
from star_actors.report import Log, Report

from .formats import count
from .frames import text
from .trajectory import is_private

__all__ = ["WITHHELD", "logs"]

_MOST_LINES = 5_000
_MOST_TEXT = 2_000_000
_LONGEST = 20_000
WITHHELD = str(Withheld("log text withheld: privacy is on"))
"""What stands for the text of a log line where privacy is on."""


def logs(report: Report) -> str:
    """The logs of a run. Where privacy is on, what nodes logged is left out."""
    if not report.logs:
        return ""
    private = is_private(report)
    kept = _newest(report.logs)
    nodes = list(dict.fromkeys(log.node_id for log in kept))
    types = list(dict.fromkeys(log.log_type for log in kept))
    notes = []
    if len(kept) < len(report.logs):
        notes.append(f"The newest {len(kept):,} of {count(len(report.logs), 'line')}; all are in the JSON file.")
    if private:
        notes.append("The text of the lines is left out: privacy is on.")
    return (
        '<section aria-labelledby="h-logs" id="logs"><h2 id="h-logs">Logs</h2>'
        '<form class="filter" role="search" hidden>'
        '<label class="wide">Search<input type="search" name="q" autocomplete="off" spellcheck="false"></label>'
        f"<label>Node{_select('node', nodes)}</label><label>Type{_select('type', types)}</label>"
        '<label>Round<input name="round" placeholder="3 or 2-5" autocomplete="off" size="8"></label></form>'
        f'<p class="quiet"><output class="found">{count(len(kept), "line")}</output>{_joined(notes)}</p>'
        f'<ol class="logs">{"".join(_row(log, private=private) for log in kept)}</ol></section>'
    )


def _newest(lines: Sequence[Log]) -> list[Log]:
    room = _MOST_TEXT
    first = len(lines)
    for log in reversed(lines[-_MOST_LINES:]):
        room -= min(len(log.message), _LONGEST)
        if room < 0:
            break
        first -= 1
    return list(lines[first:])


def _row(log: Log, *, private: bool) -> str:
    message = WITHHELD if private else log.message
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST]}... ({len(message):,} characters)"
    at = "" if log.round is None else str(log.round)
    return (
        f'<li><span class="r">{at or "start"}</span><span class="w">{text(log.node_id)}</span>'
        f'<span class="t">{text(log.log_type)}</span><bdi class="m">{text(message)}</bdi></li>'
    )


def _select(name: str, choices: Iterable[str]) -> str:
    options = "".join(f'<option value="{text(choice)}">{text(choice)}</option>' for choice in choices)
    return f'<select name="{name}"><option value="">all</option>{options}</select>'


def _joined(notes: Sequence[str]) -> str:
    return "".join(f"<br>{text(note)}" for note in notes)
