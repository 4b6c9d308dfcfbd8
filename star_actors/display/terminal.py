"""Progress on a terminal: a few lines at its foot, drawn anew ten times a second, with everything else above them."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterable
from time import perf_counter
from typing import Any, TextIO

from .formats import amount
from .progress import PATIENCE
from .sampling import Sample, Sampler, bars, span

__all__ = ["TerminalProgress", "load_rich"]

_UNICODE, _ASCII = " ▁▂▃▄▅▆▇█", " .:-=+*#"
_ACCENT, _QUIET = "cyan", "dim"
_WIDEST = 60
# A display has the terminal to itself: of runs on several threads the first that draws is shown.
_TERMINAL = threading.Lock()


def load_rich() -> None:
    """Load rich, which draws a number of the global generator as it is loaded, and put the generator back: what the
    analysis draws is not to depend on who looks on."""
    if "rich.style" in sys.modules:
        return
    twin = random.Random()
    before = random.getstate()
    twin.setstate(before)
    import rich.style  # noqa: F401

    twin.getrandbits(24)
    if random.getstate() == twin.getstate():  # nobody else has drawn meanwhile
        random.setstate(before)


class TerminalProgress:
    """Draws below whatever is printed meanwhile: by the run's console, by user code, by anybody.

    While it is up it stands in for `sys.stdout`, and for `sys.stderr` where that is a terminal too; what is written
    there appears above it, unchanged, within a tenth of a second. `breakpoint()` takes it down for good.
    """

    interval = 0.1

    def __init__(self, sampler: Sampler, terminal: TextIO) -> None:
        self.stream: TextIO = _Above(self, terminal)  # type: ignore[assignment]  # it passes on what it has not
        self._sampler = sampler
        self._terminal = terminal
        self._started = perf_counter()
        self._next = self._started + PATIENCE
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._up = self._closed = False
        self._height = 0
        self._waiting: list[str] = []
        self._console: Any = None
        self._hooks: dict[str, tuple[Any, Any]] = {}

    def tick(self) -> None:
        started = perf_counter()
        if started < self._next or self._closed:
            return
        sample = self._sampler.sample()
        # Large aggregates take long to compare: no more than a twentieth of the time goes into looking.
        self._next = started + max(self.interval, 20 * (perf_counter() - started))
        with self._lock:
            if self._closed or not (self._up or self._put_up()):
                return
            self._draw(self._render(sample))

    def close(self) -> None:
        with self._lock:
            if self._up:
                self._take_down()
            self._closed = True

    def above(self, text: str) -> bool:
        """Keep text until the next drawing; False where nothing is drawn, so that it goes out as it is."""
        if os.getpid() != self._process:  # a child of this process: nobody draws there
            return False
        with self._lock:
            if not self._up:
                return False
            self._waiting.append(text)
            return True

    def _put_up(self) -> bool:
        load_rich()
        from rich.console import Console

        self._console = Console(file=self._terminal, highlight=False)
        if self._console.legacy_windows or not _TERMINAL.acquire(blocking=False):
            self._closed = True
            return False
        self._up = True
        if sys.stdout is self._terminal:
            self._hook("stdout", self.stream)
        if sys.stderr is not None and sys.stderr.isatty():
            self._hook("stderr", _Above(self, sys.stderr))
        self._hook("breakpointhook", self._break)
        return True

    def _break(self, *args: Any, **kwargs: Any) -> Any:
        before, _ = self._hooks["breakpointhook"]
        self.close()
        return before(*args, **kwargs)

    def _hook(self, name: str, ours: Any) -> None:
        self._hooks[name] = (getattr(sys, name), ours)
        setattr(sys, name, ours)

    def _take_down(self) -> None:
        try:
            self._draw([self._styled([(self._sampler.closing(), _QUIET)])], last=True)
        finally:
            self._up = False
            for name, (before, ours) in self._hooks.items():
                if getattr(sys, name) is ours:
                    setattr(sys, name, before)
            _TERMINAL.release()

    def _draw(self, lines: list[str], *, last: bool = False) -> None:
        """Write what waits, whole lines of it, and the display below."""
        text = "".join(self._waiting)
        whole, newline, rest = text.rpartition("\n")
        self._waiting = [rest] if rest and not last else []
        above = whole + newline + (f"{rest}\n" if last and rest else "")
        up = f"\x1b[{self._height - 1}A" if self._height > 1 else ""
        foot = "\n".join(lines) + ("\n" if last else "")
        self._terminal.write(f"\r{up}\x1b[J{above}{foot}" if self._height or above else foot)
        self._terminal.flush()
        self._height = 0 if last else len(lines)

    def _render(self, sample: Sample) -> list[str]:
        facts: list[tuple[str, str]] = []
        for i, (label, value) in enumerate(sample.facts()):
            facts += [("   " if i else "", ""), (f"{label} " if label else "", _QUIET), (value, "" if i else "bold")]
        lines = [facts]
        if sample.round_seconds is not None:
            line = [("aggregate ", _QUIET), (sample.aggregate, "")]
            if sample.change is not None:
                line += [("   change ", _QUIET), (amount(sample.change), "")]
            lines.append(line)
        drawn = self._bars()
        if drawn:
            changes = self._sampler.changes
            lines.append([("change per round ", _QUIET), (drawn, _ACCENT), (f" {span(changes)}", _QUIET)])
        waiting = sample.waiting()
        if waiting:
            lines.append([(waiting, _QUIET)])
        return [self._styled(parts) for parts in lines]

    def _bars(self) -> str:
        encoding = (getattr(self._terminal, "encoding", None) or "").lower()
        levels = _UNICODE if encoding.startswith("utf") else _ASCII
        return bars(self._sampler.changes, max(8, min(_WIDEST, self._console.width - 42)), levels)

    def _styled(self, parts: Iterable[tuple[str, str]]) -> str:
        from rich.text import Text

        text = Text.assemble(*parts, no_wrap=True, overflow="crop")
        text.truncate(max(1, self._console.width - 1))
        with self._console.capture() as captured:
            self._console.print(text, end="")
        return str(captured.get())


class _Above:
    """A stream whose text appears above the display while there is one; it is the stream itself in all else."""

    def __init__(self, display: TerminalProgress, stream: TextIO) -> None:
        self._display = display
        self._stream = stream

    def write(self, text: str) -> int:
        if self._display.above(text):
            return len(text)
        return self._stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
