"""The pool of one process: cheap calls on the home lane, slow and blocking ones on worker lanes beside each other.

Every call goes to the home lane until its method has been measured slow. A watch looks on from a thread of its own:
where the home lane is held up by one call, worker lanes take the calls that wait behind it. A node that a worker has
taken stays with that worker, so it is left to the one that has least to do. Lanes that compute are as many as there are
cores; lanes that are blocked do not count, so that fifty sleeping nodes sleep side by side.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

from .lanes import Call, CallKind, Lane, WorkerLane, throw_into
from .watch import STILL, Watch

if TYPE_CHECKING:
    from .seats import Seat

__all__ = ["Pool"]

SLOW = 0.002
"""Seconds from which a call counts as slow: some thirty times what a hop to another thread costs."""
BALANCED = 256
"""Up to so many slow nodes are left to the lane that has least to do; of more, first come is as good."""


class Pool:
    """Places calls on lanes. `home` is stepped by the dispatcher; `done` is called, on any thread, for each call that
    a worker lane has finished, `moved` before a node that was at home begins on another lane, `failed` with what has
    ended a thread of ours from outside."""

    def __init__(
        self,
        *,
        max_threads: int,
        spread: bool,
        home: Lane | None,
        done: Callable[[Call], None],
        moved: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.max_threads = max_threads
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.spread = spread
        self.home = home
        self.lanes: list[WorkerLane] = []
        self.capped = False
        self._done = done
        self._moved = moved
        self._failed = failed
        self._unplaced: deque[Call] = deque()
        self._slow_calls: dict[tuple[type, CallKind], int] = {}
        self._costs: dict[Seat, float] = {}
        self._lock = threading.Lock()
        self._home_held = False
        self._closed = False
        self.watch = Watch(self, failed)

    def submit(self, call: Call) -> None:
        """Place one call: with its node's own lane, at home, or with the next worker that is free."""
        lane = call.seat.lane
        if lane is not None:
            lane.submit(call)
        elif self.home is not None and not (self._slow_calls and self._slow(call)):
            self.home.calls.append(call)
        elif self.spread:
            self._seat(call)
        else:
            self._unplaced.append(call)
            self.offer()

    def _seat(self, call: Call) -> None:
        """Give a node a lane of its own before anything of it has run; beyond the cap, nodes share them in turn."""
        seat = call.seat
        if len(self.lanes) < self.max_threads:
            self.lanes.append(self._start_lane())
            lane = self.lanes[-1]
        else:
            self.capped = True
            lane = self.lanes[seat.position % self.max_threads]
        seat.move_to(lane, None)
        lane.submit(call)

    def _start_lane(self) -> WorkerLane:
        return WorkerLane(self._work, f"star-worker-{len(self.lanes)}", self._has_more, self._failed)

    def measured(self, call: Call) -> None:
        """Note how long a call took. Its method is slow after two slow calls on end, so that a cold first one
        (imports, caches) does not count; and fast again after one fast call."""
        seat = call.seat
        if seat.seconds > SLOW:
            key = (seat.cls, call.kind)
            self._slow_calls[key] = self._slow_calls.get(key, 0) + 1
            cost = self._costs.get(seat)
            if cost is None or seat.seconds < cost:  # the least: what is more is the machine's doing
                self._costs[seat] = seat.seconds
        elif self._slow_calls:
            self._slow_calls.pop((seat.cls, call.kind), None)

    @property
    def has_slow_calls(self) -> bool:
        """Whether the last call of some kind was slow."""
        return bool(self._slow_calls)

    def _slow(self, call: Call) -> bool:
        return self._slow_calls.get((call.seat.cls, call.kind), 0) >= 2

    @property
    def waiting(self) -> int:
        """How many calls no lane has taken yet, though they could run."""
        held = len(self.home.calls) if self._home_held and self.home is not None else 0
        return len(self._unplaced) + held

    def offer(self, extra: int = 0) -> None:
        """Wake idle lanes, or start some: up to the number of cores, and `extra` more where lanes are blocked."""
        self.watch.nudge()
        wanted = self.waiting
        for lane in self.lanes:
            if wanted <= 0:
                return
            if lane.idle and self._has_more(lane):
                lane.ring()
                wanted -= 1
        with self._lock:
            # The home lane computes too where it is held up.
            room = max(self.cores - self._home_held - len(self.lanes), extra)
            if self._closed:
                return
            for _ in range(min(wanted, room)):
                if len(self.lanes) >= self.max_threads:
                    self.capped = True
                    return
                try:
                    self.lanes.append(self._start_lane())
                except RuntimeError:  # the system allows no more threads
                    self.capped = True
                    if not self.lanes and self.home is None:
                        raise
                    return

    def hold_home(self, held: bool) -> None:
        """Open the home lane's queue to the workers, or close it again."""
        self._home_held = held

    def stop(self, patience: float) -> list[WorkerLane]:
        """End every worker lane, waiting up to `patience` seconds; the lanes that would not end."""
        with self._lock:
            self._closed = True
        self.watch.stop()
        for lane in self.lanes:
            lane.stop()
        deadline = perf_counter() + patience
        for lane in self.lanes:
            lane.thread.join(max(0.0, deadline - perf_counter()))
        left = [lane for lane in self.lanes if lane.thread.is_alive()]
        for lane in left:
            throw_into(lane.thread)
        deadline = perf_counter() + STILL
        for lane in left:
            lane.thread.join(max(0.0, deadline - perf_counter()))
        return [lane for lane in left if lane.thread.is_alive()]

    def _has_more(self, lane: WorkerLane) -> bool:
        call = self._next()
        return call is not None and not self._leaves(lane, call)

    def _next(self) -> Call | None:
        """The call that a worker would take next."""
        try:
            if self._unplaced:
                return self._unplaced[0]
            if self._home_held and self.home is not None:
                return self.home.calls[0]
        except IndexError:  # a worker was faster
            pass
        return None

    def _leaves(self, lane: WorkerLane, call: Call) -> bool:
        """Whether a lane leaves a node to another that has less to do, and will be free soon."""
        costs = self._costs
        if call.seat not in costs or len(costs) > BALANCED:
            return False
        # Nodes that take about as long count alike: what differs is mostly the machine's doing.
        unit = min([*costs.values()])

        def weight(seat: Seat) -> float:
            cost = costs.get(seat, unit)
            return 1.0 if cost < 2 * unit else cost / unit

        most = sum(map(weight, lane.seats)) - 0.5 * weight(call.seat)
        soon = perf_counter() - 2 * costs[call.seat]
        return any(
            sum(map(weight, other.seats)) < most and (other.current is None or other.started > soon)
            for other in self.lanes
        )

    def _work(self, lane: Lane) -> None:
        """What a worker lane does: its own nodes' calls first, then whatever nobody has taken."""
        assert isinstance(lane, WorkerLane)
        while not lane.closed and not lane.resumed:
            call = self._take(lane)
            if call is None:
                return
            lane.current = call
            lane.started = started = perf_counter()
            call.perform(started)
            lane.current = None
            self.measured(call)
            self._done(call)

    def _take(self, lane: WorkerLane) -> Call | None:
        if lane.calls:
            return lane.calls.popleft()
        if not self._has_more(lane):
            return None
        try:
            if self._unplaced:
                call = self._unplaced.popleft()
            elif self._home_held and self.home is not None:
                call = self.home.calls.popleft()
            else:
                return None
        except IndexError:  # another lane was faster
            return None
        if call.seat.lane is None:
            self._moved()
            call.seat.move_to(lane, call.round)
            lane.seats.append(call.seat)
        elif call.seat.lane is not lane:
            call.seat.lane.submit(call)
            return None
        return call
