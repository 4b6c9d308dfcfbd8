"""The console of the blocking call: logs grouped by round and node, the result last."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import groupby
from typing import TextIO

from ..report import Log, Record
from ..session.flame import LEVELS, MOCK_LEVELS
from .formats import count

__all__ = ["Console"]

_COLOURS = {
    "debug": 90,
    "info": 36,
    "notice": 32,
    "warn": 33,
    "warning": 33,
    "alert": 91,
    "emerg": 35,
    "emergency": 35,
    "error": 31,
    "crit": 41,
    "critical-error": 41,
}


class Console:
    """Prints a run's logs as its rounds end, and what was released at the end; colour only on a terminal. `stream` is
    None in a program without a console."""

    def __init__(self, record: Record, level: int, stream: TextIO | None) -> None:
        self._record = record
        self._level = level
        self._stream = stream
        self._colour = stream is not None and stream.isatty()
        self._held: list[Log] = []

    def follow(self, event: int | str) -> None:
        """Print the logs of every round that has ended."""
        if isinstance(event, int):
            self._held += self._record.fresh_logs()
            self._print([log for log in self._held if log.round is None or log.round <= event])
            self._held = [log for log in self._held if log.round is not None and log.round > event]

    def rest(self) -> None:
        """Print what logs are left, of a round that did not end."""
        self._held += self._record.fresh_logs()
        self._print(self._held)
        self._held = []

    def say(self, lines: Iterable[str]) -> None:
        """Print lines as they are; nowhere, in a program without a console."""
        for line in lines:
            print(line, file=self._stream, flush=True)

    def point_to(self, where: str) -> None:
        """Say, to standard error, how much was noticed while it ran, and `where` it is told; nothing of nothing."""
        kinds = sorted({finding.kind for finding in self._record.findings})
        noticed = [f"{count(len(self._record.findings), 'finding')} ({', '.join(kinds)})"] if kinds else []
        if warnings := len(self._record.warnings) - self._record.known_before:
            noticed.append(count(warnings, "warning"))
        if noticed and sys.stderr is not None:
            print(f"{' and '.join(noticed)}: see {where}", file=sys.stderr, flush=True)

    def _print(self, logs: list[Log]) -> None:
        shown = [log for log in logs if LEVELS.get(log.log_type, MOCK_LEVELS.get(log.log_type, 20)) >= self._level]
        order = {node.id: i for i, node in enumerate(self._record.nodes)}
        shown.sort(key=lambda log: (log.round or 0, order.get(log.node_id, 0)))
        for number, of_round in groupby(shown, key=lambda log: log.round or 0):
            self.say([f"--- Starting Iteration {number} ---"])
            for node_id, of_node in groupby(of_round, key=lambda log: log.node_id):
                lines = list(of_node)
                role = "Analyzer" if lines[0].role == "default" else "Aggregator"
                self.say([f"Logs for {role} {node_id}:", *map(self._line, lines)])
            self.say([f"--- Ending Iteration {number} ---", ""])

    def _line(self, log: Log) -> str:
        if not self._colour:
            return log.message
        return f"\033[{_COLOURS.get(log.log_type, 39)}m{log.message}\033[0m"
