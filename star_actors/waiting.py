"""How a thread waits for a run: interruptible, within the run's time, and in control again at its end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING

from .run import GRACE, Event, Run

if TYPE_CHECKING:
    from .display.progress import Live

__all__ = ["alarm", "interruptible", "stop", "wait"]


def wait(run: Run, events: SimpleQueue[Event], follow: Callable[[Event], object], live: Live | None = None) -> None:
    """Pass on what the run tells until it has ended; a run over its time that does not end by itself is abandoned."""
    end = float("inf") if run.deadline is None else run.deadline + GRACE
    # A Ctrl-C that comes in the moment before a wait does not end it: no wait is for long.
    pause = 1.0 if live is None else live.interval
    while not run.ended.is_set():
        try:
            follow(events.get(timeout=min(pause, max(0.0, end - perf_counter()))))
        except Empty:
            if perf_counter() >= end:
                run.abandon("timeout")
        if live is not None:
            live.tick()


def stop(run: Run) -> None:
    """Stop a run from outside: it has a moment to do so by itself, then it is left behind."""
    run.cancel("stopped")
    if not run.ended.wait(GRACE):
        run.abandon("stopped")


def interruptible() -> AbstractContextManager[None]:
    """Make Ctrl-C raise KeyboardInterrupt here at once, also inside `asyncio.run`, whose handler only cancels a task
    that cannot notice while this call blocks."""
    in_loop = asyncio._get_running_loop() is not None
    if not in_loop or threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return _handling(signal.SIGINT, signal.default_int_handler)


def alarm(run: Run) -> AbstractContextManager[None]:
    """Throw a stuck method out of this thread once the run is over its time."""
    if run.deadline is None:
        return nullcontext()
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        return _signalled(run)
    return _timed(run, threading.current_thread(), after=0.05)


@contextmanager
def _signalled(run: Run) -> Iterator[None]:
    assert run.deadline is not None
    with _handling(signal.SIGALRM, lambda number, frame: run.over_time()):
        # Once more every so often: user code may have swallowed the first.
        before = signal.setitimer(signal.ITIMER_REAL, max(0.001, run.deadline + 0.05 - perf_counter()), 0.2)
        try:
            # User code may have set an alarm of its own, and this process has one.
            with _timed(run, threading.current_thread(), after=2 * GRACE):
                yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, *before)


@contextmanager
def _timed(run: Run, thread: threading.Thread, *, after: float) -> Iterator[None]:
    assert run.deadline is not None
    timer = threading.Timer(run.deadline + after - perf_counter(), run.throw_over_time, (thread,))
    timer.name = "star-timer"
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


@contextmanager
def _handling(number: signal.Signals, handler: signal._HANDLER) -> Iterator[None]:
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)
