"""One blocking run that prints nothing: for studies, tests and the command line."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any

from star_actors.blocking import _alarm, _interruptible, _stop
from star_actors.config import RunConfig, configure
from star_actors.options import Serial
from star_actors.report import Report
from star_actors.run import GRACE, Event, Run

__all__ = ["run_config", "run_quietly"]


def run_quietly(*args: Any, **arguments: Any) -> Report:
    """Run an analysis to its end and give its report. Takes StarModelTester's arguments; prints nothing.

    Blocks the calling thread; works inside a running event loop. Raises what StarModelTester raises.
    """
    return run_config(configure(*args, **arguments))


def run_config(config: RunConfig) -> Report:
    """The same for a run that is described already. The serial engine starts no thread: it runs on this one."""
    events: SimpleQueue[Event] = SimpleQueue()
    run = Run(config, events.put, stepwise=False)
    try:
        with _interruptible():
            if isinstance(config.engine, Serial):
                with _alarm(run):
                    run.run_here()
            else:
                run.start()
                _wait(run, events)
    except BaseException as error:
        _stop(run, events)
        if isinstance(error, KeyboardInterrupt):
            error.report = run.report()  # type: ignore[attr-defined]
        raise
    run.join()
    if run.error is not None:
        raise run.error
    return run.report()


def _wait(run: Run, events: SimpleQueue[Event]) -> None:
    """Until the run has ended; one that is over its time and does not end by itself is abandoned."""
    end = float("inf") if run.deadline is None else run.deadline + GRACE
    while not run.ended.is_set():
        try:
            events.get(timeout=None if end == float("inf") else max(0.0, end - perf_counter()))
        except Empty:
            run.abandon("timeout")
