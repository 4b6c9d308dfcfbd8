"""Engines of one process: serial, auto and threads. They differ in where a call may run, and in nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..options import Auto, Serial, Threads
from .lanes import Call, WorkerLane
from .pool import SLOW, Pool
from .watch import Watch

if TYPE_CHECKING:
    from ..dispatcher import Dispatcher

__all__ = ["LocalEngine"]


class LocalEngine:
    """Places the calls of one run. `ordered` keeps them on one thread in node order, which a seed needs; `cores` is how
    many lanes may compute at once (None: one for each that the process may use)."""

    def __init__(self, options: Serial | Auto | Threads, *, ordered: bool, cores: int | None = None) -> None:
        self._options = Serial() if ordered else options
        self._cores = cores
        self._lock = threading.Lock()
        self._stopped = False
        self._failed: Callable[[BaseException], None]
        self._pool: Pool | None = None
        self._watch: Watch | None = None

    def attach(self, dispatcher: Dispatcher) -> None:
        """Take over a dispatcher's calls; on the thread that it will run on."""
        self._failed = dispatcher.fail
        if isinstance(self._options, Serial):
            return
        spread = isinstance(self._options, Threads)

        def moved() -> None:
            dispatcher.at_home = False

        self._pool = pool = Pool(
            max_threads=self._options.max_threads,
            spread=spread,
            home=None if spread else dispatcher.home,
            done=dispatcher.done,
            moved=moved,
            failed=dispatcher.fail,
        )
        if self._cores is not None:
            pool.cores = self._cores
        self._watch = pool.watch

        def measured(call: Call) -> None:
            pool.measured(call)
            dispatcher.at_home = False
            # While something has been slow, brisk calls count as well: they may take it back.
            dispatcher.brisk = -1.0 if pool.has_slow_calls else SLOW

        dispatcher.measured = measured
        dispatcher.brisk = SLOW
        dispatcher.submit = pool.submit
        dispatcher.at_home = not spread

    def rested(self) -> None:
        """The dispatcher has work again."""
        if self._watch is not None:
            self._watch.nudge()

    def at(self, deadline: float, callback: Callable[[], Any]) -> None:
        """Call back once `perf_counter()` has passed `deadline`, whatever the other threads do."""
        with self._lock:
            if self._stopped:
                return
            if self._watch is None:
                self._watch = Watch(None, self._failed)
            self._watch.at(deadline, callback)

    @property
    def capped(self) -> bool:
        """Whether more threads were wanted than the engine may have."""
        return self._pool is not None and self._pool.capped

    @property
    def busy_threads(self) -> list[int]:
        """The worker threads on which a call runs."""
        lanes = self._pool.lanes if self._pool is not None else []
        return [lane.thread.ident for lane in lanes if lane.current is not None and lane.thread.ident is not None]

    def stop(self, patience: float) -> list[Call]:
        """End every thread, waiting up to `patience` seconds; the calls that would not end."""
        with self._lock:
            self._stopped = True
        if self._pool is not None:
            return [call for call in map(_current, self._pool.stop(patience)) if call is not None]
        if self._watch is not None:
            self._watch.stop()
        return []


def _current(lane: WorkerLane) -> Call | None:
    return lane.current
