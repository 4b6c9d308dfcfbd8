"""StarModelTester: the guide's blocking call, over the same run."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import Empty, SimpleQueue
from time import perf_counter

from .display.console import Console
from .display.progress import Live, live_display, shown
from .options import Serial
from .run import GRACE, Event, Run
from .tester import Tester

__all__ = ["StarModelTester"]


class StarModelTester(Tester):
    """Test a STAR analysis: runs it, prints its logs and its result, and raises where it fails.

    Works where an event loop is already running, and from any thread. Afterwards `result` and `report` tell what
    happened. One Ctrl-C ends the run. Source: the guide, StarModelTester.
    """

    def _made(self) -> None:
        events: SimpleQueue[Event] = SimpleQueue()
        serial = isinstance(self._config.engine, Serial)
        run = self._run = Run(self._config, events.put, stepwise=False)
        # A serial run is for stepping through: nothing is drawn there unasked.
        live = live_display(self._config, run.record, default=False if serial else None)
        stream = sys.stdout if live is None else live.stream
        console = Console(run.record, self._config.stream_log_level, stream)
        try:
            with shown(live, on_thread=serial), _interruptible():
                if serial:
                    run.tell = console.follow
                    with _alarm(run):
                        run.run_here()
                else:
                    run.start()
                    _wait(run, events, console, live)
                console.rest()
        except BaseException as error:
            _stop(run, events)
            console.rest()
            if isinstance(error, KeyboardInterrupt):
                error.report = self.report  # type: ignore[attr-defined]
            raise
        run.join()
        console.rest()
        if run.error is not None:
            raise run.error
        console.say(run.said)


def _wait(run: Run, events: SimpleQueue[Event], console: Console, live: Live | None) -> None:
    """Show what the run tells until it has ended; a run over its time that does not end by itself is abandoned."""
    end = float("inf") if run.deadline is None else run.deadline + GRACE
    pause = float("inf") if live is None else live.interval
    while not run.ended.is_set():
        wait = min(pause, max(0.0, end - perf_counter()))
        try:
            console.follow(events.get(timeout=None if wait == float("inf") else wait))
        except Empty:
            if perf_counter() >= end:
                run.abandon("timeout")
        if live is not None:
            live.tick()


def _stop(run: Run, events: SimpleQueue[Event]) -> None:
    """Stop a run from outside: it has a moment to do so by itself, then it is left behind."""
    run.cancel("stopped")
    if not run.ended.wait(GRACE):
        run.abandon("stopped")


def _interruptible() -> AbstractContextManager[None]:
    """Make Ctrl-C raise KeyboardInterrupt here at once, also inside `asyncio.run`, whose handler only cancels a task
    that cannot notice while this call blocks."""
    in_loop = asyncio._get_running_loop() is not None
    if not in_loop or threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return _handling(signal.SIGINT, signal.default_int_handler)


def _alarm(run: Run) -> AbstractContextManager[None]:
    """Throw a stuck method out of this thread once the run is over its time."""
    if run.deadline is None:
        return nullcontext()
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        return _signalled(run)
    return _timed(run, threading.current_thread())


@contextmanager
def _signalled(run: Run) -> Iterator[None]:
    assert run.deadline is not None
    with _handling(signal.SIGALRM, lambda number, frame: run.over_time()):
        # Once more every so often: user code may have swallowed the first.
        before = signal.setitimer(signal.ITIMER_REAL, max(0.001, run.deadline + 0.05 - perf_counter()), 0.2)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, *before)


@contextmanager
def _timed(run: Run, thread: threading.Thread) -> Iterator[None]:
    assert run.deadline is not None
    timer = threading.Timer(run.deadline + 0.05 - perf_counter(), run.throw_over_time, (thread,))
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
