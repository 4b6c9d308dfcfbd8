"""Hosts in worker processes of this machine, one socket each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from ..config import RunConfig
from ..errors import ConfigurationError
from ..isolation import Broadcast
from ..options import Processes
from ..report import Record
from .channel import Channel
from .hosts import Hosts, Remote
from .lanes import Call
from .parcels import Parcel, parcel_of
from .segments import Lent, hold_once

__all__ = ["ProcessHosts", "cores_here"]

BOOT = "import sys; sys.path[:] = {paths!r}; from star_actors.engines.worker import main; main({fd})"


class ProcessHosts(Hosts):
    """One host in each worker process. The processes import nothing of the caller's script, and end with the run."""

    def __init__(self, config: RunConfig, record: Record) -> None:
        super().__init__(config, record)
        if not hasattr(socket, "AF_UNIX") or not hasattr(socket, "SCM_RIGHTS"):
            raise ConfigurationError(
                'engine="processes" needs Unix sockets, which this system does not have: use "auto" or "threads"'
            )
        self._workers: list[Worker] = []
        self.hold_once = hold_once

    async def open(self, nodes: int) -> list[Remote]:
        options = self.config.engine
        assert isinstance(options, Processes)
        cores = cores_here()
        count = min(options.workers or cores, nodes)
        loop = asyncio.get_running_loop()
        for number in range(count):
            worker = Worker(number, self, loop)
            worker.remote.cores = max(1, cores // count)
            self._workers.append(worker)
        return [worker.remote for worker in self._workers]

    def parcel_of_broadcast(self, broadcast: Broadcast) -> Parcel:
        data, buffers, loan = broadcast.lend()
        if loan is None:
            return parcel_of(data, buffers, self.hold_once, "the aggregate")
        return Parcel(data, loan.places, Lent(loan), broadcast.nbytes, "the aggregate")

    def stop(self, patience: float) -> list[Call]:
        killed = self._kill(patience)
        for worker in self._workers:
            worker.read()  # what was on its way: lines of logs, and calls that had returned after all
        for worker in self._workers:
            worker.close()
        return _calls(killed)

    def kill(self, patience: float) -> list[Call]:
        return _calls(self._kill(patience))

    def _kill(self, patience: float) -> list[Worker]:
        """End every worker; those that did not end by themselves."""
        self.stopping = True
        deadline = perf_counter() + patience
        for worker in self._workers:
            worker.channel.end()
        killed = []
        for worker in self._workers:
            if not worker.has_ended(max(0.0, deadline - perf_counter())):
                worker.kill()
                killed.append(worker)
        return killed


class Worker:
    """One worker process, from its start to its burial. What comes from it, and its end, are noticed on the loop."""

    def __init__(self, number: int, hosts: Hosts, loop: asyncio.AbstractEventLoop) -> None:
        self._hosts = hosts
        self._loop = loop
        ours, theirs = socket.socketpair()
        with theirs:
            fd = theirs.fileno()
            paths = [path for path in sys.path if isinstance(path, str)]
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
            try:
                self._process = subprocess.Popen(
                    [sys.executable, *flags, "-c", BOOT.format(paths=paths, fd=fd)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[fd],
                    # A Ctrl-C in the terminal is for the run, which says when to stop; and whatever the nodes start
                    # can be ended with them.
                    process_group=0,
                )
            except BaseException:
                ours.close()
                raise
        self.channel = Channel(ours)
        self.remote = Remote(f"worker process {number} (pid {self._process.pid})", self._deliver)
        self._deaf = False
        self._pidfd = _pidfd(self._process.pid)
        loop.add_reader(self.channel.socket, self.read)
        if self._pidfd is not None:
            loop.add_reader(self._pidfd, self._died)

    def _deliver(self, batch: list[Any]) -> None:
        with contextlib.suppress(ConnectionError):  # whoever reads the socket finds that its end is gone
            self.channel.send(batch)

    def read(self) -> None:
        """Hand on all that has come."""
        try:
            while not self._deaf and (messages := self.channel.receive(wait=False)) is not None:
                self._hosts.heard(self.remote, messages)
        except EOFError:
            self._lost()
        except Exception as error:  # out of a callback it would go nowhere, and the run would wait for ever
            self._stop_listening()
            self._hosts.fail(error)

    def _died(self) -> None:
        self.read()
        if not self._deaf:
            self._lost()

    def _lost(self) -> None:
        self._stop_listening()
        self._hosts.lost(self.remote, f"{self.remote.name} {self._how_it_ended()}")

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def has_ended(self, patience: float) -> bool:
        """Whether the process ends within so many seconds."""
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(patience * 1000)
            return not self.alive
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the process, and whatever it started, at once. From any thread."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Close every descriptor."""
        self._stop_listening()
        self.channel.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _stop_listening(self) -> None:
        self._deaf = True
        self._loop.remove_reader(self.channel.socket)
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)

    def _how_it_ended(self) -> str:
        if not self.has_ended(1.0):
            return "has closed its connection"
        code = self._process.returncode
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:  # a signal without a name
            return f"was killed by signal {-code}"


def _calls(workers: list[Worker]) -> list[Call]:
    """The calls that are under way there."""
    return [call for worker in workers for call in list(worker.remote.calls.values())]


def cores_here() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pidfd(pid: int) -> int | None:
    """A descriptor that can be read once the process has ended; None where the system has none."""
    opener: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
    try:
        return opener(pid) if opener is not None else None
    except OSError:
        return None
