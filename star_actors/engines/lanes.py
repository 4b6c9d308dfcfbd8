"""Lanes: one thread each, on which calls into user code run one after the other and may wait without holding it.

A call that waits for a message takes its greenlet along, and the lane goes on with another. So a call costs no
switch at all unless it waits, and a thousand waiting nodes need one thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator
from queue import SimpleQueue
from time import perf_counter
from types import coroutine
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from greenlet import getcurrent, greenlet

from ..errors import NodeError, NodeStopped, PrivacyError, StarError
from ..secrecy import without_text

if TYPE_CHECKING:
    from .seats import Seat

__all__ = ["METHODS", "Call", "CallKind", "Failure", "Lane", "WorkerLane", "current_lane", "failure_of", "throw_into"]

CallKind = Literal["construct", "analyze", "aggregate", "converge", "release"]

_thread = threading.local()


class Call:
    """One call into a node's own code: awaited by an actor, performed on a lane, its outcome carried back.

    Awaiting its `outcome` hands it to the dispatcher; then the next may be awaited. `seat.seconds` leaves out the time
    spent waiting for messages.
    """

    __slots__ = ("argument", "error", "function", "kind", "round", "seat", "value", "waiter")

    def __init__(self, seat: Seat, kind: CallKind) -> None:
        self.seat = seat
        self.kind: CallKind = kind
        self.function = getattr(seat, kind)
        self.waiter: Any = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.round: int | None = None
        self.argument: Any = None

    @coroutine
    def outcome(self, round: int | None = None, argument: Any = None) -> Generator[Call, Any, Any]:
        """Have it performed, and give what comes of it; to be awaited. Raises what `failure_of` makes of an error."""
        self.round = round
        self.argument = argument
        yield self
        if self.error is not None:
            raise failure_of(self)
        value, self.value = self.value, None
        return value

    def perform(self, started: float) -> float:
        """Run it on this thread; gives the time when it was done. Whatever comes out of user code is caught here,
        SystemExit included."""
        seat = self.seat
        seat.waited = 0.0
        try:
            self.value = seat.context.run(self.function, self.round, self.argument)
        except BaseException as error:  # a node's failure ends the run, never the thread that it happened on
            self.error = error
        if self is _forked:
            _leave(self.error)
        ended = perf_counter()
        seat.seconds = ended - started - seat.waited
        return ended


_forked: Call | None = None
"""In a child that user code has forked: the call that it came out of, which goes on in the parent only."""


def _forked_here() -> None:
    global _forked
    lane: Lane | None = getattr(_thread, "lane", None)
    _forked = lane.current if lane is not None else None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked_here)


def _leave(error: BaseException | None) -> NoReturn:
    """End a child at the end of the method that forked it, as its script would end."""
    code: Any = 0
    if isinstance(error, SystemExit):
        code = error.code
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code or 0)


class Failure(Exception):
    """What a call's failure has come to where it was performed: `error` ends the run as it is."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


METHODS: dict[CallKind, str] = {
    "construct": "__init__",
    "analyze": "analysis_method",
    "aggregate": "aggregation_method",
    "converge": "has_converged",
    "release": "release",
}


def throw_into(thread: threading.Thread) -> None:
    """Send NodeStopped to a thread; it arrives when the thread next runs Python code."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(NodeStopped))


def failure_of(call: Call) -> BaseException:
    """What ends the run when a call has failed: the user's exception in a NodeError; what is no node's failure as it
    is, which a Ctrl-C, the run's own stopping and our own errors of the release are."""
    error = call.error
    assert error is not None
    seat = call.seat
    if isinstance(error, Failure):
        return error.error
    if isinstance(error, NodeStopped | KeyboardInterrupt):
        return error
    if isinstance(error, StarError) and (call.kind == "release" or _is_refusal(error)):
        return error
    if seat.secretive:
        # Its text may hold the exact value that noise protects; its type and its lines do not.
        error = without_text(error)
    return NodeError.of(
        error, node_id=seat.node_id, role=seat.role, round=call.round, doing=f"{seat.cls.__name__}.{METHODS[call.kind]}"
    )


def _is_refusal(error: StarError) -> bool:
    """Whether one of the privacy stages said this, and not user code."""
    return isinstance(error, PrivacyError) and error._tells_nothing


def current_lane() -> Lane | None:
    """The lane whose call is running here; None on a thread, or in a greenlet, of the user's own."""
    lane: Lane | None = getattr(_thread, "lane", None)
    if lane is not None and getcurrent().parent is lane.hub:
        return lane
    return None


class Lane:
    """The greenlets of one thread. `work` runs calls until none is left, and is run again by another greenlet where
    one of its calls waits. Subclasses say where the thread comes from and how it is woken."""

    def __init__(self, work: Callable[[Lane], None]) -> None:
        self.calls: deque[Call] = deque()
        self.resumed: deque[greenlet] = deque()
        self.idle = False
        self.current: Call | None = None
        self.started = 0.0
        self.closed = False
        self.hub: greenlet | None = None
        self._work = work
        self._spare: list[greenlet] = []
        self._parked: set[greenlet] = set()

    @property
    def parked(self) -> int:
        """How many calls wait."""
        return len(self._parked)

    def turn(self) -> None:
        """Run whatever can run. On the lane's own thread, from its hub."""
        outer = getattr(_thread, "lane", None)
        _thread.lane = self
        self.hub = getcurrent()
        try:
            while True:
                if self.resumed:
                    runner = self.resumed.popleft()
                    if runner not in self._parked:
                        continue
                    self._parked.discard(runner)
                elif self._spare:
                    runner = self._spare.pop()
                else:
                    runner = greenlet(self._run)
                if runner.switch():
                    if self.closed:
                        return
                    self._spare.append(runner)
                    if not self.resumed:
                        return
        finally:
            _thread.lane = outer

    def park(self) -> None:
        """Wait here, inside a call, until `resume` is called with this greenlet; raises NodeStopped at the end."""
        me = getcurrent()
        assert self.hub is not None
        # What the call had set for its thread must not leak into the call that runs next.
        loop = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        call, started = self.current, self.started
        self._parked.add(me)
        try:
            self.hub.switch(False)
        finally:
            self.current, self.started = call, perf_counter() if call else started
            asyncio._set_running_loop(loop)
            if self.closed:
                self._parked.discard(me)

    def resume(self, waiting: greenlet) -> None:
        """Let a parked greenlet go on; from any thread, more than once without harm."""
        self.resumed.append(waiting)
        self.ring()

    def submit(self, call: Call) -> None:
        """Queue a call; from any thread."""
        self.calls.append(call)
        self.ring()

    def ring(self) -> None:
        """Wake the lane where it sleeps; from any thread."""
        raise NotImplementedError

    def close(self) -> None:
        """Throw NodeStopped into every call that waits, and let the greenlets go. On the lane's own thread."""
        self.closed = True
        outer = getattr(_thread, "lane", None)
        _thread.lane = self
        self.hub = getcurrent()
        try:
            while self._parked:
                self._parked.pop().throw(NodeStopped("the run is over"))
            while self._spare:
                self._spare.pop().throw()
        finally:
            _thread.lane = outer
            # A thread that ends while its main greenlet is still referred to makes greenlet search the whole heap.
            self.hub = None

    def _run(self) -> bool:
        while True:
            self._work(self)
            if self.closed:
                return True
            assert self.hub is not None
            self.hub.switch(True)


class WorkerLane(Lane):
    """A lane on a daemon thread of its own, which a method that never returns cannot make anybody wait for. `seats` are
    those that it has taken."""

    def __init__(
        self,
        work: Callable[[Lane], None],
        name: str,
        has_more: Callable[[WorkerLane], bool],
        failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__(work)
        self._has_more = has_more
        self._failed = failed
        self._bell: SimpleQueue[None] = SimpleQueue()
        self.seats: list[Seat] = []
        self.thread = threading.Thread(target=self._main, name=name, daemon=True)
        self.thread.start()

    def ring(self) -> None:
        if self.idle:
            self.idle = False
            self._bell.put(None)

    def stop(self) -> None:
        """Ask the thread to end: waiting calls are thrown out, a running one is left to finish."""
        self.closed = True
        self._bell.put(None)

    def _main(self) -> None:
        try:
            while not self.closed:
                self.turn()
                # Idle first, then look again: whoever added work in between either saw `idle` or is seen here.
                self.idle = True
                if self.calls or self.resumed or self.closed or self._has_more(self):
                    self.idle = False
                    continue
                self._bell.get()
                self.idle = False
        except BaseException as error:  # thrown in between two calls; nobody would notice, and wait for ever
            if not self.closed:
                self._failed(RuntimeError(f"a thread of the run was ended from outside by {type(error).__name__}"))
        finally:
            self.close()
