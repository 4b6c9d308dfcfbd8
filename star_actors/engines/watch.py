"""The watch of a run: a thread that keeps its timers, and sees which lane is held up and which is blocked."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .lanes import Lane, WorkerLane

if TYPE_CHECKING:
    from .pool import Pool

__all__ = ["Watch"]

TICK = 0.002
STILL = 0.02
"""Seconds without any processor time after which a lane counts as blocked, even where others compute."""
GROWTH = 7


class Watch:
    """A thread that looks on: timers for waits, and calls that hold up a lane. It runs no user code, and sleeps while
    there is nothing to see."""

    def __init__(self, pool: Pool | None, failed: Callable[[BaseException], None]) -> None:
        self._pool = pool
        self._failed = failed
        self._timers: list[tuple[float, int, Callable[[], Any]]] = []
        self._count = 0
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._asleep = False
        self._closed = False
        self._clocks: dict[Lane, tuple[float, float]] = {}
        self._home_thread = threading.get_ident()
        self._home_native = threading.get_native_id()
        self._schedule = _open_schedule(self._home_native)
        self._held = False
        self._looked_at = 0.0
        self._total = 0.0
        self._waited = 0.0
        self.thread = threading.Thread(target=self._main, name="star-watch", daemon=True)
        self.thread.start()

    def at(self, deadline: float, callback: Callable[[], Any]) -> None:
        """Call `callback` on the watch's thread once `perf_counter()` has passed `deadline`."""
        with self._lock:
            self._count += 1
            heapq.heappush(self._timers, (deadline, self._count, callback))
        self._bell.set()

    @property
    def pending(self) -> int:
        """How many timers are set."""
        return len(self._timers)

    def nudge(self) -> None:
        """There is something to see again; from any thread, next to free where the watch is awake."""
        if self._asleep:
            self._bell.set()

    def stop(self) -> None:
        """End the thread."""
        self._closed = True
        self._bell.set()
        self.thread.join()
        schedule, self._schedule = self._schedule, None
        if schedule is not None:
            os.close(schedule)

    def _main(self) -> None:
        try:
            self._look_on()
        except BaseException as error:  # nobody would notice, and timers would never come
            self._failed(error)

    def _look_on(self) -> None:
        looked = perf_counter()
        self._used()
        self._starved()
        while not self._closed:
            now = perf_counter()
            pause = self._run_timers(now)
            if self._pool is not None:
                # Asleep first, then look: whoever starts something in between finds `_asleep` and nudges.
                self._asleep = True
                if self._look(self._pool, now, now - looked):
                    self._asleep = False
                    pause = TICK if pause is None else min(pause, TICK)
                looked = now
            if self._bell.wait(pause):
                self._bell.clear()

    def _run_timers(self, now: float) -> float | None:
        due: list[Callable[[], Any]] = []
        with self._lock:
            while self._timers and self._timers[0][0] <= now:
                due.append(heapq.heappop(self._timers)[2])
            pause = self._timers[0][0] - now if self._timers else None
        for callback in due:
            callback()
        return pause

    def _look(self, pool: Pool, now: float, window: float) -> bool:
        """Look once at every lane that runs; whether it is worth looking again soon."""
        home = pool.home
        running: list[Lane] = [lane for lane in pool.lanes if lane.current is not None]
        if home is not None and not home.idle:
            running.append(home)
        used, starved = self._used(), self._starved()
        blocked = 0
        clocks, self._clocks = self._clocks, {}
        for lane in running:
            clock = _thread_clock(lane.thread.ident if isinstance(lane, WorkerLane) else self._home_thread)
            # Nothing is known of one that is seen for the first time: it may well compute.
            last, still_since = clocks.get(lane, (clock - window, now))
            if clock - last > 0.0001:
                still_since = now
            self._clocks[lane] = (clock, still_since)
            blocked += now - still_since > STILL and not self._wants_to_run(lane)
        # Only one that was looked at: home may have begun since.
        self._held = home is not None and home in running and self._is_held(home, clocks, window, starved)
        pool.hold_home(self._held)
        if pool.waiting:
            # Nobody computes: the lanes sleep, or wait for a disk or a network. Otherwise one more for each that is
            # blocked while others compute.
            still = used + starved < 0.3 * window and not any(map(self._wants_to_run, running))
            pool.offer(extra=GROWTH * max(1, len(running)) if still else blocked)
            return True
        return home is not None and not home.idle

    def _is_held(self, home: Lane, before: dict[Lane, tuple[float, float]], window: float, starved: float) -> bool:
        """Whether one call has held up the home lane since the last look: it computed, or it was blocked.

        A call that had no processor, as on a busy machine, or that had not the interpreter's lock for the moment of a
        look, does not: a brisk one would pass for slow, and its neighbours would move for nothing.
        """
        last, self._looked_at = self._looked_at, home.started
        if home.current is None or home.started != last or home not in before:
            return False
        if window < TICK / 2:
            return self._held  # too soon to see anything new
        spent = self._clocks[home][0] - before[home][0]
        if spent > 0.5 * window:
            return True
        return spent + starved < 0.5 * window and not self._wants_to_run(home)

    def _used(self) -> float:
        """Processor seconds of the process since the last look, without the watch's own."""
        total = time.process_time() - time.thread_time()
        spent, self._total = total - self._total, total
        return spent

    def _starved(self) -> float:
        """Seconds since the last look that the home lane was ready to run and had no processor; 0 where the system
        does not tell."""
        if self._schedule is None:
            return 0.0
        waited = int(os.pread(self._schedule, 64, 0).split()[1]) / 1e9
        more, self._waited = waited - self._waited, waited
        return more

    def _wants_to_run(self, lane: Lane) -> bool:
        """Whether a lane that has used no processor is waiting for one, as on a busy machine; False where the system
        does not tell."""
        thread = lane.thread.native_id if isinstance(lane, WorkerLane) else self._home_native
        try:
            status = Path(f"/proc/self/task/{thread}/stat").read_bytes()
        except OSError:
            return False
        return status[status.rindex(b")") + 2 :][:1] == b"R"


def _open_schedule(thread: int) -> int | None:
    """Where Linux tells how long a thread has run, and how long it was ready and waited for a processor."""
    try:
        return os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _thread_clock(ident: int | None) -> float:
    """Processor seconds of one thread; of the process where the system has no such clock."""
    if ident is not None and hasattr(time, "pthread_getcpuclockid"):
        return time.clock_gettime(time.pthread_getcpuclockid(ident))
    return time.process_time()
