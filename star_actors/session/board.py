"""The board: what the sessions of one process share. It carries envelopes, knows who waits, and ends all waits."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Callable, Collection
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from greenlet import getcurrent

from ..engines.lanes import current_lane
from ..errors import NodeStopped
from ..findings import Finding

if TYPE_CHECKING:
    from ..engines.seats import Seat
    from ..isolation import Pages
    from ..report import Log

__all__ = ["NOT_YET", "Board", "Envelope", "Wait"]


class Envelope(msgspec.Struct):
    """One object under way from one node to another: a message, intermediate data, or global storage."""

    sender: str
    receiver: str
    kind: Literal["message", "data", "stored"]
    category: str
    id: str
    number: int
    payload: Any


class NotYet:
    """What a wait's condition gives while it does not hold."""


NOT_YET = NotYet()


class Wait:
    """Something a node waits for: `condition` gives NOT_YET until it holds, then what was waited for.

    `wake` is set while the wait is open. `what` says it in words, for the error where it can never come. `holder` is
    what the wait holds up: the node's call itself, a task of its own, or None, which is a thread of the user's.
    """

    __slots__ = ("condition", "deadline", "error", "holder", "seat", "wake", "what")

    def __init__(self, seat: Seat, condition: Callable[[], Any], timeout: float | None, what: str) -> None:
        self.seat = seat
        self.condition = condition
        self.deadline = None if timeout is None else perf_counter() + max(0.0, timeout)
        self.what = what
        self.wake: Callable[[], None] | None = None
        self.error: BaseException | None = None
        self.holder: object = None


class Board:
    """Shared by the sessions of one process; every method may be called from any thread.

    Hooks: `route` carries an envelope to a node elsewhere, `at` sets a timer, `log` and `find` write to the record,
    `submit` releases a result early, `waits_grew` hears that one node more waits.
    """

    def __init__(
        self,
        *,
        log: Callable[[Log, bool], None],
        find: Callable[[Finding], object],
        at: Callable[[float, Callable[[], Any]], None],
    ) -> None:
        self.lock = threading.RLock()
        self.log = log
        self.find = find
        self.at = at
        self.route: Callable[[Envelope], None] | None = None
        self.submit: Callable[..., Any] | None = None
        self.progress: Callable[[str, int], None] | None = None
        self.waits_grew: Callable[[], None] | None = None
        self.pages: Pages | None = None
        self.stopped = False
        self._inboxes: dict[str, Callable[[Envelope], None]] = {}
        self._waits: dict[str, list[Wait]] = {}

    def register(self, node_id: str, accept: Callable[[Envelope], None]) -> None:
        """Make a node of this process reachable; `accept` is called with the lock held."""
        self._inboxes[node_id] = accept

    def deliver(self, envelope: Envelope) -> None:
        """Bring an envelope to its receiver, and wake the receiver where it waits for it."""
        with self.lock:
            accept = self._inboxes.get(envelope.receiver)
            if accept is not None:
                accept(envelope)
                self.stir(envelope.receiver)
                return
        if self.route is None:
            raise ValueError(f"{envelope.receiver!r} is not a participant of this analysis")
        self.route(envelope)

    def stir(self, node_id: str) -> None:
        """Look again at what a node waits for."""
        with self.lock:
            for wait in list(self._waits.get(node_id, ())):
                if wait.condition() is not NOT_YET:
                    self._wake(wait)

    @property
    def waits(self) -> list[Wait]:
        """Every open wait."""
        with self.lock:
            return [wait for waits in self._waits.values() for wait in waits]

    def stalled(self, calls: int, tasks: Collection[asyncio.Task[Any]]) -> list[Wait] | None:
        """The waits, where nobody is left to send what they are for: all of so many calls wait, those of `async def`
        methods in their own `tasks`, and none for a limited time. None where one may still go on."""
        with self.lock:
            waits = self.waits
        if any(wait.deadline is not None for wait in waits):
            return None
        holders = {wait.holder for wait in waits}
        held = {wait.seat.node_id for wait in waits if wait.holder is not None}
        if len(held) < calls or not holders.issuperset(tasks):
            return None
        return [wait for wait in waits if wait.holder is not None]

    def give_up(self, wait: Wait, error: BaseException) -> None:
        """End a wait with an error."""
        with self.lock:
            if wait.wake is not None:
                wait.error = error
                self._wake(wait)

    def stop(self) -> None:
        """End every wait with NodeStopped; later ones end at once."""
        with self.lock:
            self.stopped = True
            waits = self.waits
        for wait in waits:
            self.give_up(wait, NodeStopped("the run is over"))

    def check(self) -> None:
        """Raise NodeStopped where the run is over."""
        if self.stopped:
            raise NodeStopped("the run is over: this node's calls are not answered any more")

    def block(self, wait: Wait) -> Any:
        """Wait here; gives what was waited for, or NOT_YET once the deadline has passed."""
        self.check()
        lane = current_lane()
        if lane is None and asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "a blocking call of self.flame inside an async def method would hold up every node: "
                "await self.flame.aio.<the same name>(...) instead"
            )
        started = perf_counter()
        if lane is not None:
            me = wait.holder = getcurrent()
            generators = _generators() if wait.seat.seed is not None else None
            if not self._open(wait, lambda: lane.resume(me)):
                return self._outcome(wait)
            lane.park()
            if generators is not None:
                _restore(generators)
        else:
            # A thread of the user's own: it may wait as threads do.
            bell = threading.Event()
            if self._open(wait, bell.set):
                bell.wait()
            return self._outcome(wait)
        wait.seat.waited += perf_counter() - started
        return self._outcome(wait)

    async def suspend(self, wait: Wait) -> Any:
        """The same for an `async def` method."""
        self.check()
        loop = asyncio.get_running_loop()
        bell = asyncio.Event()
        wait.holder = asyncio.current_task()
        started = perf_counter()
        generators = _generators() if wait.seat.seed is not None else None
        if self._open(wait, lambda: _set(loop, bell)):
            try:
                await bell.wait()
            finally:
                with self.lock:
                    if wait.wake is not None:
                        self._drop(wait)
            if generators is not None:
                _restore(generators)
        wait.seat.waited += perf_counter() - started
        return self._outcome(wait)

    def _open(self, wait: Wait, wake: Callable[[], None]) -> bool:
        """Start a wait; False where there is nothing to wait for."""
        with self.lock:
            if wait.condition() is not NOT_YET:
                return False
            if wait.deadline is not None and wait.deadline <= perf_counter():
                return False
            wait.wake = wake
            self._waits.setdefault(wait.seat.node_id, []).append(wait)
        if wait.deadline is not None:
            self.at(wait.deadline, lambda: self._expire(wait))
        elif self.waits_grew is not None:
            self.waits_grew()
        return True

    def _expire(self, wait: Wait) -> None:
        with self.lock:
            if wait.wake is not None:
                self._wake(wait)

    def _wake(self, wait: Wait) -> None:
        wake = wait.wake
        assert wake is not None
        self._drop(wait)
        wake()

    def _drop(self, wait: Wait) -> None:
        wait.wake = None
        waits = self._waits[wait.seat.node_id]
        waits.remove(wait)
        if not waits:
            del self._waits[wait.seat.node_id]

    def _outcome(self, wait: Wait) -> Any:
        if wait.error is not None:
            raise wait.error
        self.check()
        with self.lock:
            return wait.condition()


def _set(loop: asyncio.AbstractEventLoop, bell: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(bell.set)
    except RuntimeError:  # the loop has ended, and its waits with it
        return


def _generators() -> tuple[Any, Any]:
    numpy = sys.modules.get("numpy")
    return random.getstate(), None if numpy is None else numpy.random.get_state()


def _restore(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    if states[1] is not None:
        sys.modules["numpy"].random.set_state(states[1])
