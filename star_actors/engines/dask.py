"""Hosts on the workers of a Dask cluster, one actor each."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from time import perf_counter
from typing import Any

from ..config import RunConfig
from ..errors import ConfigurationError
from ..isolation import Broadcast
from ..isolation.pickled import dump
from ..options import Dask
from ..report import Record
from .cluster import LOOK_AGAIN, Cluster
from .dask_host import HostActor, bundled, unbundled
from .hosts import Hosts, Remote
from .keeping import Keeping
from .lanes import Call
from .parcels import Parcel
from .seats import Seat

__all__ = ["DaskHosts"]

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
        links = list(self._links)
        try:
            # Half of the time is for the way there and back.
            left = self._cluster.close(lambda: _stop(links, patience / 2), patience + 0.1) or []
        except TimeoutError:
            left = links
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


async def _stop(links: list[Link], patience: float) -> list[Link]:
    """End hosts; the links whose methods would not end."""
    ended = await asyncio.gather(*(link.stop(patience) for link in links))
    return [link for link, done in zip(links, ended, strict=True) if not done]


def _never(size: int, parts: Any) -> None:
    """No memory is shared with another machine."""
