"""The hosts of a run, as the run sees them: calls of hosted nodes go out, outcomes come back, messages are carried."""

from __future__ import annotations

import asyncio
import pickle
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..checks import plan_of
from ..config import RunConfig
from ..dispatcher import Dispatcher
from ..errors import ConfigurationError, NodeError
from ..isolation import ATOMIC, Broadcast
from ..messages import Contribution
from ..report import Record
from ..session.board import Board, Envelope
from .hosted import opened, packed
from .keeping import Keeping
from .lanes import METHODS, Call, Failure
from .outbox import Outbox
from .parcels import Hold, Parcel, pack, parcel_of
from .scripts import ORIGIN, Script
from .seats import Seat
from .wire import (
    Failed,
    Found,
    FromHost,
    GiveUp,
    Logged,
    Outcome,
    Posted,
    Printed,
    Progressed,
    Request,
    Settle,
    Start,
    Unready,
    Waiting,
)

__all__ = ["Hosts", "Remote"]


class Remote:
    """One host: its name for people, its nodes, the calls that are under way there, and how many cores its nodes have
    to themselves."""

    def __init__(self, name: str, deliver: Callable[[list[Any]], None]) -> None:
        self.name = name
        self.seats: dict[int, Seat] = {}
        self.calls: dict[int, Call] = {}
        self.outbox = Outbox(deliver)
        self.requests: list[Request] = []
        self.sent = 0
        self.waiting: Waiting | None = None
        self.cores = 1

    def request(self, call: Call, argument: Any) -> None:
        """Add a call; those that are alike go out as one request, with the next batch."""
        position = call.seat.position
        self.calls[position] = call
        last = self.requests[-1] if self.requests else None
        if last is not None and (last.kind, last.round) == (call.kind, call.round) and last.argument is argument:
            last.positions.append(position)
        else:
            self.requests.append(Request([position], call.kind, call.round, argument))

    @property
    def at_work(self) -> str:
        """The nodes whose calls are under way here, in words."""
        ids = [self.seats[position].node_id for position in sorted(self.calls)]
        return ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")


class Hosts(ABC):
    """Every host of one run. Whatever is not said to be from any thread happens on the run's own."""

    hold_once: Hold

    def __init__(self, config: RunConfig, record: Record) -> None:
        self.config = config
        self.record = record
        self.remotes: list[Remote] = []
        self.stopping = False
        self.keeping: Keeping | None = None
        self._home: dict[str, Remote] = {}
        self._of: dict[int, Remote] = {}
        self._info = {node.id: node for node in record.nodes}
        self._lock = threading.RLock()
        self._flushing = False
        self._packed: tuple[Any, Any] = (None, None)

    @abstractmethod
    async def open(self, nodes: int) -> list[Remote]:
        """Start hosts for so many nodes."""

    @abstractmethod
    def stop(self, patience: float) -> list[Call]:
        """End every host, within `patience` seconds; the calls that would not end."""

    @abstractmethod
    def kill(self, patience: float) -> list[Call]:
        """The same from any thread, where the run's own may be held up."""

    async def start(self, dispatcher: Dispatcher, board: Board, seats: Sequence[Seat]) -> None:
        """Open the hosts, and give every analyzer its seat in one of them. Raises ConfigurationError for what cannot
        travel."""
        self._loop = asyncio.get_running_loop()
        self._dispatcher = dispatcher
        self._board = board
        self._local = dispatcher.submit
        dispatcher.submit = self.submit
        dispatcher.at_home = False
        board.route = self.route
        hosted = [seat for seat in seats if seat.role == "default"]
        self.remotes = await self.open(len(hosted))
        for number, seat in enumerate(hosted):
            # Neighbours sit together: they are who most peers write to.
            self.place(seat, self.remotes[number * len(self.remotes) // len(hosted)])
        self.script = Script(self.config.analyzer, self.config.aggregator)
        for remote in self.remotes:
            self.begin(remote)
            for seat in remote.seats.values():
                self.settle(remote, seat)

    def begin(self, remote: Remote) -> None:
        """Tell a host what it needs to know before its first node."""
        config = self.config
        storage = config.history.storage_dir
        start = Start(
            classes=self.script.classes,
            origin=ORIGIN,
            sources=self.script.sources,
            participants=[(node.id, node.role) for node in config.nodes],
            data_type=config.data_type,
            seed=config.seed,
            max_threads=config.engine.max_threads,  # type: ignore[union-attr]  # the engines with hosts have it
            cores=remote.cores,
            storage_dir=None if storage is None else str(Path(storage).absolute()),
            keeps_state=self.keeping is not None,
            checks=plan_of(config),
        )
        remote.outbox.add(start)
        remote.outbox.flush()

    def place(self, seat: Seat, remote: Remote) -> None:
        """Make a host a node's home."""
        remote.seats[seat.position] = seat
        self._of[seat.position] = remote
        self._home[seat.node_id] = remote

    def settle(self, remote: Remote, seat: Seat, state: Any = None) -> None:
        """Send a node's data and arguments to its host."""
        config = self.config
        node = config.nodes[seat.position]
        assert node.split is not None
        # One by one, as they are copied within one process: what they share is not shared any more.
        luggage = [
            parcel_of(*self.script.luggage(value, what=what), self.hold_once, type(value).__name__)
            for what, value in (
                (f"data_splits[{node.split}]", config.data_splits[node.split]),
                ("analyzer_kwargs", dict(config.analyzer_kwargs)),
            )
        ]
        remote.outbox.add(Settle(seat.position, seat.node_id, seat.role, seat.secretive, luggage, state))
        remote.outbox.flush()

    # Calls

    def submit(self, call: Call) -> None:
        """Place one call: in the node's host, or on this side."""
        remote = self._of.get(call.seat.position)
        if remote is None:
            # This call may hold the loop up for long; the hosts should not wait for it.
            self._flush()
            self._local(call)
            return
        call.seat.round = call.round
        remote.request(call, self._for_hosts(call.argument))
        self.flush_soon()

    def flush_soon(self) -> None:
        """Send all requests once this turn of the loop is over."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self._packed = None, None
        for remote in self.remotes:
            requests, remote.requests = remote.requests, []
            for request in requests:
                self._send(remote, request)
            try:
                remote.outbox.flush()
            except Exception as error:  # out of a callback it would go nowhere, and the run would wait for ever
                self._dispatcher.fail(error)

    def _for_hosts(self, argument: Any) -> Any:
        if type(argument) in ATOMIC:
            return argument
        if self._packed[0] is not argument:
            self._packed = argument, self.parcel(argument)
        return self._packed[1]

    def parcel(self, argument: Any) -> Parcel:
        """The parcel of an argument, for every host."""
        if type(argument) is not Broadcast:
            return pack(argument, self.hold_once)
        parcel = self.parcel_of_broadcast(argument)
        # The pickle is by reference, and the hosts may lack a class of the script that only the aggregator knows.
        repaired = self.script.repaired(argument.take()) if self.script.is_named_in(parcel.data) else None
        return parcel if repaired is None else parcel_of(repaired, (), self.hold_once, parcel.type_name)

    @abstractmethod
    def parcel_of_broadcast(self, broadcast: Broadcast) -> Parcel:
        """The parcel of what goes to every analyzer."""

    # Messages of nodes

    def route(self, envelope: Envelope) -> None:
        """Carry an envelope to the host of its receiver; from any thread."""
        if envelope.receiver not in self._home:
            raise ValueError(f"{envelope.receiver!r} is not a participant of this analysis")
        envelope = packed(envelope, self.hold_once)
        with self._lock:  # a node that is being restored gets it at its old home or its new one, not at neither
            posted = Posted(envelope) if self.keeping is None else self.keeping.posted(envelope)
            remote = self._home[envelope.receiver]
            self._send(remote, posted)
        remote.outbox.flush()

    def _send(self, remote: Remote, message: Request | Posted | GiveUp) -> None:
        with self._lock:
            if type(message) is not GiveUp:
                remote.sent += 1
            remote.waiting = None
        remote.outbox.add(message)

    # What comes from the hosts

    def heard(self, remote: Remote, messages: Sequence[FromHost]) -> None:
        """Take a batch of messages from a host. An error of our own ends the run."""
        try:
            self._heard(remote, messages)
        except Exception as error:  # out of a callback it would go nowhere, and the run would wait for ever
            self._dispatcher.fail(error)

    def _heard(self, remote: Remote, messages: Sequence[FromHost]) -> None:
        record = self.record
        for message in messages:
            remote.waiting = None
            match message:
                case Outcome(position) | Failed(position) if self.stopping:
                    remote.calls.pop(position)  # it has returned; nobody waits for it any more
                case Posted() if self.stopping:
                    pass
                case Outcome():
                    self.returned(remote, message)
                case Logged(log, append):
                    if self.keeping is None or self.keeping.is_new_line(log.node_id):
                        self._board.log(log, append)
                case Posted(envelope):
                    self.posted(envelope)
                case Found(finding):
                    record.find(finding)
                case Progressed(node_id, progress):
                    self._progressed(node_id, progress)
                case Printed(stream, text):
                    print(text, end="", file=getattr(sys, stream), flush=True)
                case Failed(position):
                    call = remote.calls.pop(position)
                    call.error = Failure(_opened_error(message))
                    self._dispatcher.done(call)
                case Waiting():
                    remote.waiting = message
                    self._dispatcher.look_again()
                case Unready(text):
                    self._dispatcher.fail(ConfigurationError(f"{remote.name} cannot go on: {text}"))

    def returned(self, remote: Remote, outcome: Outcome) -> None:
        """Bring an outcome to whoever waits for it. The guard of what leaves a node stands here."""
        call = remote.calls.pop(outcome.position)
        seat = call.seat
        if self.keeping is not None:
            with self._lock:
                self.keeping.keep(seat, outcome.state)
        seat.seconds = outcome.seconds
        seat.moved_in = outcome.moved
        try:
            value = outcome.value.take(only=True) if type(outcome.value) is Parcel else outcome.value
            if call.kind == "analyze":
                assert call.round is not None
                if seat.guard is not None:
                    value = seat.guard(call.round, value)
                call.value = Contribution(seat.node_id, call.round, value, outcome.nbytes)
        except BaseException as error:  # unpickling runs the user's code
            call.error = error
        self._dispatcher.done(call)

    def posted(self, envelope: Envelope) -> None:
        """Carry on what a hosted node has sent to a node elsewhere."""
        if self.keeping is not None and not self.keeping.is_new(envelope):
            return
        if envelope.receiver in self._home:
            self.route(envelope)
        else:
            self._board.deliver(opened(envelope))

    def _progressed(self, node_id: str, progress: int) -> None:
        self._info[node_id].progress = progress
        if self._board.progress is not None:
            self._board.progress(node_id, progress)

    # Ends

    def fail(self, error: BaseException) -> None:
        """End the run; from any thread."""
        self._dispatcher.fail(error)

    def lost(self, remote: Remote, what: str) -> None:
        """A host is gone: the run fails with the node that had most likely to do with it."""
        if self.stopping:
            return
        at_work = sorted(remote.calls) or sorted(remote.seats)
        seat = remote.seats[at_work[0]]
        call = remote.calls.get(seat.position)
        doing = f"{remote.at_work} at work there" if remote.calls else "no call under way there"
        self._dispatcher.fail(
            NodeError.of(
                ChildProcessError(f"{what}, with {doing}"),
                node_id=seat.node_id,
                role=seat.role,
                round=seat.round,
                doing=f"{seat.cls.__name__}.{METHODS[call.kind]}" if call is not None else remote.name,
            )
        )

    def stalled(self) -> list[tuple[int, str]] | None:
        """The positions of nodes, and what each waits for, where every call in every host waits; None where one may
        still send something."""
        found: list[tuple[int, str]] = []
        for remote in self.remotes:
            with self._lock:
                report = remote.waiting
                if not remote.calls:
                    continue
                if report is None or report.received != remote.sent:
                    return None
            positions = {seat.node_id: seat.position for seat in remote.seats.values()}
            waits = {positions[node_id]: what for node_id, what in report.waits}
            if len(waits) < len(remote.calls):
                return None
            found.extend(waits.items())
        return found

    def give_up(self, position: int, text: str) -> None:
        """End what a hosted node waits for with a TimeoutError."""
        remote = self._of[position]
        self._send(remote, GiveUp(remote.seats[position].node_id, text))
        remote.outbox.flush()

    def fate(self, seat: Seat) -> str:
        """What became of a call that did not return: what it was."""
        return f"ended with {self.where(seat)}"

    def where(self, seat: Seat) -> str | None:
        """The name of a node's host; None for a node on this side."""
        remote = self._of.get(seat.position)
        return None if remote is None else remote.name


class RemoteTraceback(Exception):
    """Where an exception was raised in another process; the cause of that exception, for it to be shown."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def _opened_error(failed: Failed) -> BaseException:
    error: BaseException = pickle.loads(failed.error)
    try:
        cause = pickle.loads(failed.cause)
    except Exception:  # its class does not come back here: the text does
        cause = RuntimeError(failed.text)
    if cause is not None and failed.traceback:
        cause.__cause__ = RemoteTraceback(failed.traceback)
    error.__cause__ = cause
    return error
