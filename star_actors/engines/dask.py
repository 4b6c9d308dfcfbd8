"""Hosts on the workers of a Dask cluster, one actor each."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ..config import RunConfig
from ..errors import ConfigurationError
from ..isolation import Broadcast
from ..isolation.pickled import dump
from ..options import Dask
from ..report import Record
from .dask_host import HostActor, bundled, unbundled
from .hosts import Hosts, Remote
from .keeping import Keeping
from .lanes import Call
from .parcels import Parcel
from .seats import Seat

if TYPE_CHECKING:
    import distributed

__all__ = ["DaskHosts"]

CONNECT = 10.0
"""Seconds that a scheduler has to answer."""
LOOK_AGAIN = 2.0
"""Seconds after which the scheduler is asked again for its workers, should it not have told."""

Job = Callable[[], Coroutine[Any, Any, Any]]

NEW_WORKER = 60.0
"""Seconds to wait for another worker where the last one is lost."""


class DaskHosts(Hosts):
    """One host on each worker. With `on_worker_loss="restart"` the nodes of a lost one go on elsewhere."""

    def __init__(self, config: RunConfig, record: Record) -> None:
        super().__init__(config, record)
        options = config.engine
        assert isinstance(options, Dask)
        if options.on_worker_loss == "restart":
            self.keeping = Keeping()
        self.hold_once = _never
        self._cluster = Cluster(options.cluster)
        self._links: list[Link] = []
        self._gone: set[str] = set()
        self._restoring: set[asyncio.Task[None]] = set()

    async def open(self, nodes: int) -> list[Remote]:
        await self._cluster.connect(self._left)
        workers = await self._cluster.workers()
        chosen = list(workers.items())[:nodes]
        links = await asyncio.gather(*(self._link(address, threads) for address, threads in chosen))
        if None in links:
            raise ConfigurationError("a Dask worker left the cluster before the run had begun: run it again")
        return [link.remote for link in links if link is not None]

    async def _link(self, address: str, threads: int) -> Link | None:
        """Make a host on a worker; None where the worker is gone."""
        link = Link(self._cluster, self, address, threads, asyncio.get_running_loop())
        self._links.append(link)
        try:
            await self._cluster.run(link.open)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"{link.remote.name} cannot import {error.name!r}: install star-actors[dask] there too"
            ) from error
        except ConnectionError:
            self._links.remove(link)
            self._gone.add(address)
            return None
        return link

    def parcel_of_broadcast(self, broadcast: Broadcast) -> Parcel:
        data, buffers = dump(broadcast.take())  # whose memory nobody else has, so that it need not be copied
        return Parcel(data, buffers, None, broadcast.nbytes, "the aggregate")

    def stop(self, patience: float) -> list[Call]:
        return self.kill(patience)

    def kill(self, patience: float) -> list[Call]:
        self.stopping = True
        left = self._cluster.close(self._links, patience)
        if self.keeping is not None and self.keeping.dropped:
            self.record.warn(f"{self.keeping.dropped} messages that restored nodes sent once more were dropped")
        return [call for link in left for call in link.remote.calls.values()]

    def fate(self, seat: Seat) -> str:
        return f"left behind on {self.where(seat)}"

    def _left(self, address: str) -> None:
        """A worker has left the cluster."""
        for link in list(self._links):
            if link.address == address:
                link.lose("was lost (it has left the cluster)")

    def lost(self, remote: Remote, what: str) -> None:
        if self.keeping is None or self.stopping:
            super().lost(remote, what)
            return
        self.remotes.remove(remote)
        # The scheduler may not know it yet.
        self._gone |= {link.address for link in self._links if link.remote is remote}
        self._links = [link for link in self._links if link.remote is not remote]
        task = asyncio.get_running_loop().create_task(self._restore(remote, what))
        self._restoring.add(task)
        task.add_done_callback(self._restored)

    def _restored(self, task: asyncio.Task[None]) -> None:
        self._restoring.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)

    async def _restore(self, lost: Remote, what: str) -> None:
        assert self.keeping is not None
        target = await self._new_home()
        if target is None:
            super().lost(lost, f"{what}, there was no other worker within {NEW_WORKER:.0f} s")
            return
        with self._lock:  # nothing may come to these nodes in between
            for position, seat in sorted(lost.seats.items()):
                self.place(seat, target)
                state, came = self.keeping.restored(seat.node_id)
                self.settle(target, seat, state)
                for posted in came:
                    self._send(target, posted)
                call = lost.calls.get(position)
                if call is not None:
                    target.request(call, self._for_hosts(call.argument))
        self._flush()
        seats = list(lost.seats.values())
        reached = max((seat.round for seat in seats if seat.round is not None), default=None)
        when = "before the first round" if reached is None else f"in round {reached}"
        nodes = ", ".join(seat.node_id for seat in seats)
        self.record.warn(
            f"{what} {when}: {nodes} went on from their state after their last finished call, on {target.name}"
        )

    async def _new_home(self) -> Remote | None:
        """A worker without nodes of this run, else the host with the fewest, else a worker that is still to come."""
        deadline = perf_counter() + NEW_WORKER
        while True:
            workers = await self._cluster.run(self._cluster.present)
            taken = {link.address for link in self._links} | self._gone
            for address, threads in workers.items():
                link = await self._link(address, threads) if address not in taken else None
                if link is not None:
                    self.remotes.append(link.remote)
                    self.begin(link.remote)
                    return link.remote
            if self.remotes:
                return min(self.remotes, key=lambda remote: len(remote.seats))
            if perf_counter() > deadline:
                return None
            await self._cluster.change(deadline - perf_counter())


class Link:
    """The way to one host, on the cluster's loop; `remote` and what comes from the host are the run's."""

    def __init__(
        self, cluster: Cluster, hosts: DaskHosts, address: str, threads: int, run: asyncio.AbstractEventLoop
    ) -> None:
        self.address = address
        self.gone = False
        self.remote = Remote(f"Dask worker {address}", self._deliver)
        self.remote.cores = threads
        self._cluster = cluster
        self._hosts = hosts
        self._run = run
        self._future: Any = None
        self._actor: Any = None
        self._over = asyncio.Event()
        self._going: asyncio.Queue[list[Any]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    def _deliver(self, batch: list[Any]) -> None:
        self._cluster.call(lambda: self._going.put_nowait(batch))

    async def open(self) -> None:
        """Make the actor on its worker."""
        self._future = self._cluster.client.submit(
            HostActor,
            key=f"star-host-{uuid.uuid4().hex}",
            actor=True,
            workers=[self.address],
            allow_other_workers=False,
            pure=False,
        )
        opened, over = asyncio.ensure_future(self._future), asyncio.ensure_future(self._over.wait())
        try:
            while not opened.done():
                await asyncio.wait({opened, over}, timeout=LOOK_AGAIN, return_when=asyncio.FIRST_COMPLETED)
                if self.gone or (not opened.done() and self.address not in await self._cluster.present()):
                    raise ConnectionError(f"{self.remote.name} has left the cluster")
            self._actor = opened.result()
        except BaseException:
            self._future.release()
            raise
        finally:
            opened.cancel()
            over.cancel()
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._collect())]

    async def _send(self) -> None:
        while True:
            batch = await self._going.get()
            while not self._going.empty():
                batch = [*batch, *self._going.get_nowait()]
            try:
                await self._actor.receive(*bundled(batch))
            except (OSError, RuntimeError) as error:
                self.lose(f"was lost ({error})")

    async def _collect(self) -> None:
        while True:
            try:
                bundle = await self._actor.collect()
            except (OSError, RuntimeError) as error:
                self.lose(f"was lost ({error})")
                return
            messages = unbundled(bundle)
            if not messages:
                return
            self._tell(self._hosts.heard, self.remote, messages)

    def lose(self, how: str) -> None:
        """The host is gone; on the cluster's loop."""
        if self.gone:
            return
        self.gone = True
        self._over.set()
        if self._actor is not None:
            self.release()
            self._tell(self._hosts.lost, self.remote, f"{self.remote.name} {how}")

    def release(self) -> None:
        """Let go of the actor."""
        for task in self._tasks:
            task.cancel()
        if self._future is not None:
            self._future.release()

    async def stop(self, patience: float) -> bool:
        """End the host; whether its methods have ended."""
        if self.gone or self._actor is None:
            return True
        try:
            ended: bool = await asyncio.wait_for(_answer(self._actor.stop(patience)), patience + 0.1)
            await asyncio.wait(self._tasks[1:], timeout=0.1)
        except (OSError, RuntimeError, TimeoutError):
            return self.gone
        finally:
            self.release()
        return ended

    def _tell(self, callback: Callable[..., object], *args: Any) -> None:
        try:
            self._run.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the run has ended
            return


async def _answer(future: Any) -> Any:
    return await future


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

    def close(self, links: list[Link], patience: float) -> list[Link]:
        """End hosts and connection; the links whose methods would not end. From any thread, more than once."""
        if self._closed or self._loop is None or not hasattr(self, "_jobs"):
            return []
        self._closed = True
        stopped: Future[list[bool]] = Future()
        # Half of the time is for the way there and back.
        self.call(lambda: self._jobs.put_nowait((lambda: _all(links, patience / 2), stopped)))
        try:
            ended = stopped.result(patience + 0.1)
        except TimeoutError:
            ended = [False] * len(links)
        self.call(lambda: self._jobs.put_nowait(None))
        self._ended.wait(0.2)
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(0.2)
        return [link for link, done in zip(links, ended, strict=True) if not done]


async def _all(links: list[Link], patience: float) -> list[bool]:
    return list(await asyncio.gather(*(link.stop(patience) for link in links)))


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


def _never(size: int, parts: Any) -> None:
    """No memory is shared with another machine."""
