"""The dispatcher: one supervised task that steps every actor of a process on one event loop.

An actor is a coroutine with a mailbox. It yields what it waits for, a message or a call into user code, and the
dispatcher steps it again when that is there. A task for each actor would do the same for three times the price.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import anyio

from .engines.lanes import Call, Lane
from .errors import NodeStopped

if TYPE_CHECKING:
    from .mailbox import Mailbox

__all__ = ["Actor", "Dispatcher", "HomeLane"]

BREATH = 0.005
"""Seconds that actors may run before the event loop gets a turn."""


class Actor:
    """A coroutine that the dispatcher steps. It waits for what it has yielded, a mailbox or a call; `received` is the
    message that it is stepped with."""

    __slots__ = ("body", "dispatcher", "name", "received", "waits_for")

    def __init__(self, dispatcher: Dispatcher, name: str, body: Coroutine[Any, Any, None]) -> None:
        self.dispatcher = dispatcher
        self.name = name
        self.body = body
        self.received: Any = None
        self.waits_for: Call | Mailbox[Any] | None = None


class HomeLane(Lane):
    """The lane on the event loop's own thread; the dispatcher turns it."""

    def __init__(self, work: Callable[[Lane], None], wake: Callable[[], None]) -> None:
        super().__init__(work)
        self._wake = wake

    def ring(self) -> None:
        if self.idle:
            self._wake()


class Dispatcher:
    """Steps actors, performs calls on the home lane, and takes back what was performed elsewhere.

    As long as `at_home` is set, every call goes to the home lane. Hooks are set by the engine: `submit` places a call
    where it is not, `measured` hears of each call of the home lane that took longer than `brisk` seconds, `resting` is
    called before the dispatcher sleeps (with True) and when it wakes (with False).
    """

    def __init__(self) -> None:
        self.home = HomeLane(self._work, self._wake)
        self.at_home = True
        self.submit: Callable[[Call], None] = self.home.calls.append
        self.measured: Callable[[Call], None] = lambda call: None
        self.brisk = math.inf
        self.resting: Callable[[bool], None] | None = None
        self.async_calls: dict[asyncio.Task[None], Call] = {}
        self._actors: set[Actor] = set()
        self._ready: deque[Actor] = deque()
        self._returned: deque[Call] = deque()
        self._made: deque[Call] = deque()
        self._handed: set[Call] = set()
        self._failure: BaseException | None = None
        self._until = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell: asyncio.Event | None = None

    def spawn(self, name: str, body: Coroutine[Any, Any, None]) -> Actor:
        """Add an actor; it is first stepped when the dispatcher runs."""
        actor = Actor(self, name, body)
        self._actors.add(actor)
        self._ready.append(actor)
        return actor

    def wake(self, actor: Actor, message: Any) -> None:
        """Step an actor that waits for its mailbox; on the loop's thread only."""
        actor.received = message
        self._ready.append(actor)
        if self.home.idle:
            self._wake()

    def done(self, call: Call) -> None:
        """Take back a call that was performed elsewhere; from any thread."""
        self._returned.append(call)
        if self.home.closed:
            self._drop(self._returned)
        elif self.home.idle:
            self._wake()

    def fail(self, error: BaseException) -> None:
        """End everything with an error that came out of no actor; the first one counts. From any thread."""
        if self._failure is None:
            self._failure = error
        if self.home.idle:
            self._wake()

    def look_again(self) -> None:
        """Have `resting` called once more where the dispatcher sleeps; from any thread."""
        if self.home.idle:
            self._wake()

    @property
    def open_calls(self) -> int:
        """How many actors wait for a call."""
        return sum(type(actor.waits_for) is Call for actor in self._actors)

    @property
    def current(self) -> Call | None:
        """The call whose code runs on the loop's thread, if any; from any thread."""
        if self.home.current is not None or self._loop is None:
            return self.home.current
        task: Any = asyncio.current_task(self._loop)
        return self.async_calls.get(task)

    @property
    def async_tasks(self) -> Collection[asyncio.Task[None]] | None:
        """The tasks of the calls to `async def` methods; None where the loop has others, which may go on by themselves.
        On the loop's thread."""
        if self._made or self._handed:
            return None
        if not self.async_calls:
            return ()
        # Each has one of ours beside it, and there is the dispatcher's own.
        return self.async_calls if len(asyncio.all_tasks(self._loop)) == 1 + 2 * len(self.async_calls) else None

    async def run(self) -> None:
        """Step the actors until the last has returned. The first exception out of one of them ends all."""
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                while self._actors:
                    self._turn()
                    if self._failure is not None:
                        raise self._failure
                    while self._made:
                        call = self._made.popleft()
                        self._handed.add(call)
                        tasks.start_soon(self._finish_async, call)
                    await self._rest()
        finally:
            self._hidden(self._close)

    async def _rest(self) -> None:
        assert self._bell is not None
        if self._ready or self._returned or self.home.calls or self.home.resumed:
            await asyncio.sleep(0)
            return
        if not self._actors:
            return
        # Idle first, then look again: whoever adds work in between sees `idle` and rings.
        self._bell.clear()
        self.home.idle = True
        try:
            if not (self._returned or self.home.resumed):
                if self.resting is not None:
                    self.resting(True)
                await self._bell.wait()
        finally:
            self.home.idle = False
            if self.resting is not None:
                self.resting(False)

    def _wake(self) -> None:
        assert self._loop is not None and self._bell is not None
        try:
            self._loop.call_soon_threadsafe(self._bell.set)
        except RuntimeError:  # the loop is closed: a method that was left behind has returned after all
            return

    def _turn(self) -> None:
        self._until = perf_counter() + BREATH
        self._hidden(self.home.turn)

    def _hidden(self, function: Callable[[], None]) -> None:
        # User code must not find a running loop, so that `asyncio.run` works inside a method.
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        asyncio.tasks._leave_task(loop, task)
        asyncio._set_running_loop(None)
        try:
            function()
        finally:
            asyncio._set_running_loop(loop)
            asyncio.tasks._enter_task(loop, task)

    def _work(self, home: Lane) -> None:
        """What the home lane does: perform calls, and where none is left step whoever is ready."""
        ready, calls, returned = self._ready, home.calls, self._returned
        now = perf_counter()
        while not home.resumed:
            if calls:
                try:
                    call = calls.popleft()
                except IndexError:  # a worker was faster
                    continue
                home.current = call
                home.started = now
                now = call.perform(now)
                home.current = None
                if home.closed:
                    return
                if call.seat.seconds > self.brisk:
                    self.measured(call)
                if type(call.value) is CoroutineType:
                    self._begin_async(call)
                else:
                    self._step(call.waiter)
                if now > self._until:
                    return
            elif returned:
                call = returned.popleft()
                if type(call.value) is CoroutineType:
                    self._begin_async(call)
                else:
                    self._step(call.waiter)
            elif ready:
                # All of them before the next call, so that every call that is due can be seen, and taken, by a worker.
                while ready:
                    actor = ready.popleft()
                    message, actor.received = actor.received, None
                    self._step(actor, message)
                now = perf_counter()
            else:
                return
            if self._failure is not None:
                return

    def _step(self, actor: Actor, message: Any = None) -> None:
        try:
            request = actor.body.send(message)
        except StopIteration:
            self._actors.discard(actor)
        except BaseException as error:  # supervision: the first failure ends the run
            self._actors.discard(actor)
            if self._failure is None:
                self._failure = error
        else:
            if type(request) is Call:
                request.waiter = actor
                if self.at_home:
                    self.home.calls.append(request)
                else:
                    self.submit(request)
            else:
                request.owner = actor
            actor.waits_for = request

    def _begin_async(self, call: Call) -> None:
        self._made.append(call)

    async def _finish_async(self, call: Call) -> None:
        """Finish a call to an `async def` method, in the node's own context, beside everything else."""
        assert self._loop is not None
        self._handed.discard(call)
        started = perf_counter()
        task = self._loop.create_task(self._settle(call), context=call.seat.context)
        self.async_calls[task] = call
        try:
            await task
        except asyncio.CancelledError as error:
            this = asyncio.current_task()
            if this is not None and this.cancelling():
                raise
            call.error = error
        finally:
            del self.async_calls[task]
            if type(call.value) is CoroutineType:  # it never began
                _discard(call.value)
                call.value = None
        call.seat.seconds += max(0.0, perf_counter() - started - call.seat.waited)
        self.done(call)

    async def _settle(self, call: Call) -> None:
        # A task's result is shown by asyncio's debug mode. And SystemExit out of a task would end the event loop, not
        # just the node.
        body, call.value = call.value, None
        try:
            call.value = await body
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            call.error = error
            if isinstance(error, KeyboardInterrupt | NodeStopped):  # whose turn was to come next need not begin
                for task in self.async_calls:
                    if task is not asyncio.current_task():
                        task.cancel()

    def _close(self) -> None:
        self.home.closed = True
        self.home.close()
        for actor in self._actors:
            actor.body.close()
        for calls in (self._made, deque(self._handed), self._returned, self.home.calls):
            self._drop(calls)

    @staticmethod
    def _drop(calls: deque[Call]) -> None:
        """Close the coroutines of calls that nobody will finish; from any thread."""
        while calls:
            with suppress(IndexError):  # another thread was faster
                call = calls.popleft()
                if type(call.value) is CoroutineType:
                    _discard(call.value)
                    call.value = None


def _discard(coroutine: CoroutineType[Any, Any, Any]) -> None:
    """Close a coroutine that never began, and the user's own, which ours would have awaited."""
    frame = coroutine.cr_frame
    inner = list(frame.f_locals.values()) if frame is not None else []
    coroutine.close()
    for value in inner:
        if type(value) is CoroutineType:
            _discard(value)
