"""Live progress: where a run shows how it goes while it goes, and who drives that."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from star_actors.config import RunConfig
    from star_actors.report import Record

__all__ = ["Live", "live_display", "shown"]

PATIENCE = 0.3
"""Seconds that a run may take without anything being shown."""


class Live(Protocol):
    """A display of one run. Whoever waits for the run calls `tick` about every `interval` seconds, and `close` at its
    end; nothing is drawn before the run has gone on for a moment. What is to stand above the display goes to `stream`.
    """

    interval: float
    stream: TextIO

    def tick(self) -> None:
        """Look at the run and draw, where it is time to."""

    def close(self) -> None:
        """Take the display down; a line about the run stays where anything was drawn."""


def live_display(config: RunConfig, record: Record, *, default: bool | None = None) -> Live | None:
    """The display of a run, or None where none is wanted.

    `progress=True` always gives one. With None it is left to `default`; None again: where standard output is a
    terminal or a notebook, and this is no continuous integration. In pipes and files nothing is shown unasked.
    """
    wanted = default if config.progress is None else config.progress
    stream: TextIO | None = sys.stdout
    if wanted is False or stream is None:  # None: a program without a console
        return None
    on_terminal = stream.isatty() and not _is_quiet()
    if not (wanted or on_terminal or _in_notebook()):
        return None
    from .sampling import Sampler

    sampler = Sampler(record, 1 if config.simple_analysis else config.max_iterations)
    if _in_notebook():
        from .notebook_progress import NotebookProgress

        return NotebookProgress(sampler, stream)
    if on_terminal:
        from .terminal import TerminalProgress, load_rich

        if config.seed is not None:  # before any node draws; else it is loaded once something is shown
            load_rich()
        return TerminalProgress(sampler, stream)
    from .lines import LineProgress

    return LineProgress(sampler, sys.stderr or stream, stream)


@contextmanager
def shown(live: Live | None, *, on_thread: bool = False) -> Iterator[None]:
    """Close a display at the end of the block; `on_thread` drives it meanwhile, where nobody else waits for the run."""
    if live is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_drive, args=(live, over), name="star-progress", daemon=True)
    if on_thread:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if on_thread:
            thread.join()
        live.close()


def _drive(live: Live, over: threading.Event) -> None:
    while not over.wait(live.interval):
        live.tick()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _is_quiet() -> bool:
    """Whether a terminal is none that anybody looks at, or that can move its cursor."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false") or os.environ.get("TERM") in ("dumb", "unknown")
