"""One blocking run that prints nothing: for studies, tests and the command line."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

from star_actors.config import RunConfig, configure
from star_actors.options import Serial
from star_actors.report import Report
from star_actors.run import Event, Run
from star_actors.waiting import alarm, interruptible, stop, wait

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
        with interruptible():
            if isinstance(config.engine, Serial):
                with alarm(run):
                    run.run_here()
            else:
                run.start()
                wait(run, events, lambda event: None)
    except BaseException as error:
        stop(run)
        if isinstance(error, KeyboardInterrupt):
            error.report = run.report()  # type: ignore[attr-defined]
        raise
    run.join()
    if run.error is not None:
        raise run.error
    return run.report()
