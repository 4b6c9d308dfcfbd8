"""StarModelTester: the guide's blocking call, over the same run."""

from __future__ import annotations

import sys
from queue import SimpleQueue

from .display.console import Console
from .display.progress import live_display, shown
from .options import Serial
from .run import Event, Run
from .tester import Tester
from .waiting import alarm, interruptible, stop, wait

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
            with shown(live, on_thread=serial), interruptible():
                if serial:
                    run.tell = console.follow
                    with alarm(run):
                        run.run_here()
                else:
                    run.start()
                    wait(run, events, console.follow, live)
                console.rest()
        except BaseException as error:
            stop(run)
            console.rest()
            if isinstance(error, KeyboardInterrupt):
                error.report = self.report  # type: ignore[attr-defined]
            raise
        run.join()
        console.rest()
        if run.error is not None:
            console.point_to("the error's report")
            raise run.error
        console.say(run.said)
        console.point_to("print(tester.report)")
