"""The connection to a Dask cluster, as one run has it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    import distributed

__all__ = ["LOOK_AGAIN", "Cluster"]

CONNECT = 10.0
"""Seconds that a scheduler has to answer."""
LOOK_AGAIN = 2.0
"""Seconds after which the scheduler is asked again for its workers, should it not have told."""

Job = Callable[[], Coroutine[Any, Any, Any]]


class Cluster:
    """The connection to a cluster: a client of the run's own, on the loop that a client or cluster of the caller's has
    in a thread of its own, or else in a thread that ends with the run."""

    def __init__(self, given: Any) -> None:
        self.client: distributed.Client
        self._address, self._security, self._direct, self._loop = _whereabouts(given)
        self._thread: threading.Thread | None = None
        self._closed = False
        self._jobs: asyncio.Queue[tuple[Job, Future[Any]] | None]
        self._changed: asyncio.Event
        self._ended = threading.Event()

    async def connect(self, left: Callable[[str], None]) -> None:
        """Connect; `left` is called, on the cluster's loop, with the address of each worker that leaves. Raises
        ConfigurationError where nobody answers."""
        if self._loop is None:
            ready = threading.Event()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_run_loop, args=(self._loop, ready), name="star-dask", daemon=True)
            self._thread.start()
            ready.wait()
        connected: Future[None] = Future()
        asyncio.run_coroutine_threadsafe(self._main(left, connected), self._loop)
        try:
            await asyncio.wrap_future(connected)
        except OSError as error:
            raise ConfigurationError(
                f"no Dask scheduler answers at {self._address} ({error}): start it, or give a distributed.Client, a "
                "cluster, or the scheduler's address"
            ) from error

    async def _main(self, left: Callable[[str], None], connected: Future[None]) -> None:
        """Everything on the cluster's loop happens in tasks of this one, in which the client is the current one."""
        import distributed

        # A client keeps its handlers for as long as its cluster lives: they must not keep the run alive.
        listeners = [functools.partial(self._hear, left)]

        def hear(event: tuple[float, Any]) -> None:
            for listener in listeners:
                listener(event[1])

        self._jobs = asyncio.Queue()
        self._changed = asyncio.Event()
        tasks: set[asyncio.Task[Any]] = set()
        try:
            client: Any = distributed.Client
            self.client = await client(
                self._address,
                asynchronous=True,
                set_as_default=False,
                security=self._security,
                direct_to_workers=self._direct,
                timeout=CONNECT,
                name="star-actors",
            )
        except BaseException as error:
            connected.set_exception(error)
            self._ended.set()
            return
        try:
            with self.client.as_current():
                self.client.subscribe_topic("all", hear)  # type: ignore[no-untyped-call, unused-ignore]
                connected.set_result(None)
                while (job := await self._jobs.get()) is not None:
                    task = asyncio.create_task(_settle(*job))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                for task in tasks:
                    task.cancel()
                self.client.unsubscribe_topic("all")  # type: ignore[no-untyped-call, unused-ignore]
                await self.client.close()  # type: ignore[no-untyped-call, unused-ignore]
        finally:
            listeners.clear()
            self._ended.set()

    def _hear(self, left: Callable[[str], None], what: Any) -> None:
        """Take one event of the cluster."""
        action = what.get("action") if isinstance(what, dict) else None
        if action == "remove-worker":
            left(what["worker"])
        if action in ("add-worker", "remove-worker"):
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def run(self, job: Job) -> Any:
        """Run a job on the cluster's loop."""
        outcome: Future[Any] = Future()
        self.call(lambda: self._jobs.put_nowait((job, outcome)))
        return await asyncio.wrap_future(outcome)

    def call(self, callback: Callable[[], object]) -> None:
        """Call something on the cluster's loop; from any thread."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop has ended, and the run with it
            return

    async def workers(self) -> dict[str, int]:
        """The addresses of the workers that there are, with their numbers of threads; waits for the first one."""
        found: dict[str, int] = await self.run(self._first_workers)
        return found

    async def _first_workers(self) -> dict[str, int]:
        while not (found := await self.present()):
            await self._next_change(LOOK_AGAIN)
        return found

    async def present(self) -> dict[str, int]:
        """The same, without waiting; on the cluster's loop."""
        scheduler: Any = self.client.scheduler
        identity = await scheduler.identity(n_workers=-1)
        return {address: worker["nthreads"] for address, worker in identity["workers"].items()}

    async def change(self, patience: float) -> None:
        """Wait until a worker comes or goes, or for so many seconds."""
        await self.run(lambda: self._next_change(min(patience, LOOK_AGAIN)))

    async def _next_change(self, patience: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), patience)

    def close(self, last: Job, patience: float) -> Any:
        """Run a last job, then end the connection: what the job gave, None where there is no connection any more. From
        any thread. Raises TimeoutError where the job takes more than so many seconds."""
        if self._closed or self._loop is None or not hasattr(self, "_jobs"):
            return None
        self._closed = True
        outcome: Future[Any] = Future()
        self.call(lambda: self._jobs.put_nowait((last, outcome)))
        try:
            return outcome.result(patience)
        finally:
            self.call(lambda: self._jobs.put_nowait(None))
            self._ended.wait(0.2)
            if self._thread is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(0.2)


async def _settle(job: Job, outcome: Future[Any]) -> None:
    try:
        value = await job()
    except BaseException as error:
        if not outcome.cancelled():
            outcome.set_exception(error)
    else:
        if not outcome.cancelled():
            outcome.set_result(value)


def _run_loop(loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
    asyncio.set_event_loop(loop)
    loop.call_soon(ready.set)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    finally:
        loop.close()


def _whereabouts(given: Any) -> tuple[str, Any, bool | None, asyncio.AbstractEventLoop | None]:
    """The scheduler's address, the security to use, whether to talk to the workers directly, and the loop of the
    caller's own client or cluster where that runs in a thread of its own."""
    import distributed
    from distributed.deploy.cluster import Cluster as DaskCluster

    address: Any
    if isinstance(given, str):
        return given, None, None, None
    if isinstance(given, distributed.Client):
        if given.scheduler is None:
            raise ConfigurationError("Dask(cluster=...) is given a client that is closed: give one that is connected")
        address, direct = given.scheduler.address, given.direct_to_workers
        if given.cluster is not None and direct is None:
            direct = isinstance(given.cluster, distributed.LocalCluster) or None
    elif isinstance(given, DaskCluster):
        address, direct = given.scheduler_address, isinstance(given, distributed.LocalCluster) or None
        if not address:
            raise ConfigurationError("Dask(cluster=...) is given a cluster that does not run: start it")
    else:
        raise ConfigurationError(
            f"Dask(cluster={given!r}) is given, a distributed.Client, a cluster such as LocalCluster, or the "
            "scheduler's address is wanted"
        )
    known: Any = given  # what follows is theirs, and not in their types
    loop = None if known.asynchronous else known.loop.asyncio_loop
    if loop is None and address.startswith("inproc:"):
        raise ConfigurationError(
            "an asynchronous cluster with processes=False cannot be used from outside its event loop: give one with "
            "processes=True"
        )
    return address, known.security, direct, loop
