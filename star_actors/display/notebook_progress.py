"""Progress in a notebook: an output of the cell that is drawn anew four times a second, and stays."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any, TextIO

from .charts import spark
from .formats import amount
from .frames import text
from .notebook import STYLE
from .progress import PATIENCE
from .sampling import Sample, Sampler, span

__all__ = ["NotebookProgress"]


class NotebookProgress:
    """Draws into the output of the cell that made the run; what is printed goes there too, as always."""

    interval = 0.1

    def __init__(self, sampler: Sampler, stream: TextIO) -> None:
        self.stream = stream
        self._sampler = sampler
        self._next = perf_counter() + PATIENCE
        self._handle: Any = None

    def tick(self) -> None:
        started = perf_counter()
        if started < self._next:
            return
        sample = self._sampler.sample()
        self._next = started + max(0.25, 20 * (perf_counter() - started))
        self._show(self._drawn(sample))

    def close(self) -> None:
        if self._handle is not None:
            self._show(f"<p>{text(self._sampler.closing())}</p>{self._line()}")

    def _show(self, body: str) -> None:
        from IPython.display import HTML, display

        html = HTML(f'{STYLE}<div class="star-report">{body}</div>')  # type: ignore[no-untyped-call]
        if self._handle is None:
            self._handle = display(html, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(html)

    def _drawn(self, sample: Sample) -> str:
        facts = [(label, value) for label, value in sample.facts() if value]
        if sample.round_seconds is not None:
            facts.append(("aggregate", sample.aggregate))
        if sample.change is not None:
            facts.append(("change", amount(sample.change)))
        words = " ".join(f'<span class="quiet">{label}</span> {text(value)}&ensp;' for label, value in facts)
        waiting = sample.waiting()
        note = f'<p class="quiet">{text(waiting)}</p>' if waiting else ""
        return f"<p>{words}</p>{note}{self._line()}"

    def _line(self) -> str:
        """The change per round, logarithmic, as a line."""
        changes = self._sampler.changes
        track = [(at, math.log(change)) for at, change in changes if change]
        if len(track) < 2:
            return ""
        drawn = spark(track, f"change per round: {span(changes)}")
        return f'<p><span class="quiet">change per round</span> {drawn} <span class="quiet">{span(changes)}</span></p>'
