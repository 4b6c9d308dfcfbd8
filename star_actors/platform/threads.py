"""Daemon threads: what blocks runs here, and is left behind where it never returns."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

__all__ = ["NodeThread", "Outcome", "in_thread"]

T = TypeVar("T")


class Outcome(NamedTuple):
    """What a call came to: `value`, or the `error` that it raised."""

    value: Any
    error: BaseException | None


async def in_thread(call: Callable[[], T], *, daemon: bool = True) -> T:
    """Run a blocking call on a thread of its own, in a copy of the caller's context.

    The loop's executor is not used: its threads hold the process at its end, and none is left once a call never
    returns. A cancelled caller leaves the thread to itself. Threads that `call` starts inherit `daemon`.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Outcome] = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        _report(loop, done, _try(lambda: context.run(call)))

    threading.Thread(target=work, name="star_actors I/O", daemon=daemon).start()
    outcome = await done
    if outcome.error is not None:
        raise outcome.error
    value: T = outcome.value
    return value


class NodeThread:
    """The one thread on which a node's own code runs, from its constructor to its last round."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Outcome], None]] | None]
        self._calls = queue.SimpleQueue()
        self._context = contextvars.copy_context()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def call(self, call: Callable[[], Any]) -> Outcome:
        """Run `call`, await what it returns where that is a coroutine, and give the outcome; it never raises.

        An error is handed over as a value: a StopIteration, say, cannot be raised through a coroutine.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Outcome] = loop.create_future()
        self._calls.put((call, lambda outcome: _report(loop, done, outcome)))
        return await done

    def close(self) -> None:
        """Let the thread end after the call that it is in."""
        self._calls.put(None)

    def _work(self) -> None:
        # One event loop for the node's life, so that what an `async def` method keeps on `self` works a round later.
        with asyncio.Runner() as runner:
            while (task := self._calls.get()) is not None:
                call, report = task
                report(_try(lambda call=call: self._context.run(_finish, runner, call)))  # type: ignore[misc]


def _finish(runner: asyncio.Runner, call: Callable[[], Any]) -> Any:
    value = call()
    if inspect.iscoroutine(value):
        return runner.run(value, context=contextvars.copy_context())
    return value


def _try(call: Callable[[], Any]) -> Outcome:
    try:
        return Outcome(call(), None)
    except BaseException as error:  # whatever user code raises, SystemExit included, belongs to the caller
        return Outcome(None, error)


def _report(loop: asyncio.AbstractEventLoop, done: asyncio.Future[Outcome], outcome: Outcome) -> None:
    def settle() -> None:
        if not done.done():
            done.set_result(outcome)

    if not loop.is_closed():
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:
            if not loop.is_closed():
                raise
