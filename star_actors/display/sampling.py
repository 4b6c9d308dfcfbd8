"""Looking in on a run while it goes: a few samples a second, whatever the number of rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter

from star_actors.report import Record

from .formats import amount, count, duration, size
from .trajectory import aggregate_text, measured, pick
from .values import Numbers

__all__ = ["Sample", "Sampler", "bars", "span"]

_AT_ONCE = 12
_KEPT = 400


@dataclass(frozen=True, slots=True)
class Sample:
    """What there is to see of a run at one moment.

    `rounds` are finished, `limit` is the most there may be (None: no cap). `arrived` of `analyzers` have sent their
    contribution to the round under way (None: not known), which goes on for `since` seconds; `missing` names those that
    have not. `aggregate`, `change`, `round_seconds` and the bytes are of the last finished round.
    `noised` of how many numbers have their noise (None: none is being drawn).
    """

    rounds: int
    limit: int | None
    analyzers: int
    arrived: int | None
    missing: list[str]
    seconds: float
    since: float
    round_seconds: float | None
    bytes_up: int
    bytes_down: int
    aggregate: str
    change: float | None
    noised: tuple[int, int] | None = None

    @property
    def progress(self) -> str:
        """The round under way, of how many."""
        if self.limit == 1:
            return "one round"
        return f"round {self.rounds:,}" + ("" if self.limit is None else f" of at most {self.limit:,}")

    def facts(self) -> list[tuple[str, str]]:
        """What is known, as labels and values; labels may be empty."""
        facts = [("", self.progress)]
        if self.arrived is not None:
            facts.append(("in", f"{self.arrived:,} of {self.analyzers:,}"))
            facts.append(("out", f"{self.analyzers if self.rounds else 0:,} of {self.analyzers:,}"))
        facts.append(("", duration(self.seconds)))
        if self.round_seconds is not None:
            facts.append(("a round", duration(self.round_seconds)))
            facts += [("up", size(self.bytes_up)), ("down", size(self.bytes_down))]
        return facts

    def waiting(self) -> str:
        """What takes its time: the noise, or whom the round waits for, where it has waited a while; else empty."""
        if self.noised is not None and self.noised[0] < self.noised[1]:
            return f"noise on {self.noised[0]:,} of {self.noised[1]:,} numbers"
        if self.since < 1 or self.arrived is None:
            return ""
        first = ", ".join(self.missing[:3])
        more = f" and {len(self.missing) - 3:,} more" if len(self.missing) > 3 else ""
        return f"waits {duration(self.since)} for {first or 'the aggregator'}{more}"

    def said(self) -> str:
        """The sample in one line of plain text."""
        parts = [self.progress, duration(self.seconds)]
        if self.round_seconds is not None:
            parts.append(f"{duration(self.round_seconds)} a round")
            parts.append(f"aggregate {self.aggregate}")
        if self.change is not None:
            parts.append(f"change {amount(self.change)}")
        return ", ".join(filter(None, [*parts, self.waiting()]))


class Sampler:
    """Takes samples of a run from its record, from any thread, without slowing its rounds down.

    Every sample looks at no more than a dozen of the rounds that have finished since the last. `changes` keeps how far
    the aggregate moved, by round, for as long as the run goes, in at most 400 points.
    """

    def __init__(self, record: Record, limit: int | None) -> None:
        self.changes: list[tuple[int, float]] = []
        self._record = record
        self._limit = limit
        self._analyzers = [node.id for node in record.nodes if node.role == "default"]
        self._started = self._advanced = perf_counter()
        self._seen = 0
        self._last: tuple[int, Numbers | None] = (-1, None)
        self._text = ""
        self._change: float | None = None

    def sample(self) -> Sample:
        """Look once."""
        record, now = self._record, perf_counter()
        rounds = record.finished_rounds
        if rounds > self._seen:
            fresh = rounds - self._seen
            for i in pick(fresh, _AT_ONCE, last=1):
                self._look_at(self._seen + i)
            self._seen = rounds
            self._advanced = now
        last = record.round(rounds - 1) if rounds else None
        arrived = record.arrived
        senders = None if arrived is None else {c.sender for batch in list(arrived) for c in batch}
        return Sample(
            rounds=rounds,
            limit=self._limit,
            analyzers=len(self._analyzers),
            arrived=None if senders is None else len(senders),
            missing=[] if senders is None else [node for node in self._analyzers if node not in senders],
            seconds=now - self._started,
            since=now - self._advanced,
            round_seconds=None if last is None else last.seconds,
            bytes_up=0 if last is None else last.bytes_up,
            bytes_down=0 if last is None else last.bytes_down,
            aggregate=self._text,
            change=self._change,
            noised=record.noised,
        )

    def closing(self) -> str:
        """What is left to say at the end."""
        sample = self.sample()
        each = "" if not sample.rounds else f", {duration(sample.seconds / sample.rounds)} each"
        moved = "" if sample.change is None else f", last change {amount(sample.change)}"
        return f"{count(sample.rounds, 'round')} in {duration(sample.seconds)}{each}{moved}"

    def _look_at(self, at: int) -> None:
        """Measure one round, and how far it moved."""
        if at and self._last[0] != at - 1:
            self._last = (at - 1, measured(self._record.round(at - 1).aggregate))
        aggregate = self._record.round(at).aggregate
        before, now = self._last[1], measured(aggregate)
        self._change = None if not at or before is None or now is None else now.distance(before)
        self._text = aggregate_text(aggregate, now)
        self._last = (at, now)
        if self._change is not None and math.isfinite(self._change):
            self.changes.append((at, self._change))
            if len(self.changes) > _KEPT:
                # Every other one of the older half: the recent ones stay dense.
                half = _KEPT // 2
                self.changes[:half] = self.changes[:half:2]


def bars(changes: list[tuple[int, float]], width: int, levels: str) -> str:
    """Changes as a row of `width` bars at most, on a logarithmic scale from the smallest to the largest; `levels` are
    the bars from none to high. A column without a sample repeats the one before."""
    if len(changes) < 2:
        return ""
    first, last = changes[0][0], changes[-1][0]
    columns: list[float | None] = [None] * min(width, last - first + 1)
    for at, change in changes:
        columns[(at - first) * (len(columns) - 1) // (last - first)] = change
    logs = [math.log(change) for change in columns if change]
    low, high = (min(logs), max(logs)) if logs else (0.0, 0.0)
    drawn: list[str] = []
    for moved in columns:
        if moved is None:
            drawn.append(drawn[-1])
        elif not moved:
            drawn.append(levels[0])
        else:
            share = (math.log(moved) - low) / (high - low) if high > low else 0.5
            drawn.append(levels[1 + min(len(levels) - 2, int(share * (len(levels) - 1)))])
    return "".join(drawn)


def span(changes: list[tuple[int, float]]) -> str:
    """From where to where changes went."""
    return f"{amount(changes[0][1])} to {amount(changes[-1][1])}" if changes else ""
