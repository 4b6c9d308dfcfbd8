"""A host: where nodes live that run outside the caller's process. It has the dispatcher, the board, the seats and the
lanes of a run of its own; one small actor for each node takes requests and sends outcomes back."""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import sys
import traceback
from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import Any

import anyio

from ..checks import Lookout
from ..dispatcher import Dispatcher
from ..errors import _OURS, ConfigurationError, NodeStopped, StarError, _describe, _picklable
from ..isolation import ATOMIC, Uncopyable
from ..mailbox import Mailbox
from ..options import Auto
from ..session.board import Board, Envelope
from ..session.flame import FlameSession
from ..session.storage import LocalStore
from .lanes import Call
from .local import LocalEngine
from .outbox import Outbox
from .parcels import Hold, Parcel, pack
from .scripts import unpack
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
    ToHost,
    Unready,
    Waiting,
)

__all__ = ["Host", "HostedSeat"]


class HostedSeat(Seat):
    """A node's seat in a host: its data come in a parcel, and what it computes leaves in one."""

    __slots__ = ("hold", "luggage")

    def __init__(self, settle: Settle, cls: Any, seed: int | None, hold: Hold) -> None:
        context = contextvars.copy_context()
        super().__init__(settle.position, settle.node_id, settle.role, cls, {}, None, context, seed)
        self.secretive = settle.secretive
        self.luggage: Parcel | None = settle.luggage
        self.hold = hold

    def open_luggage(self) -> None:
        """Take the node's data and keyword arguments out."""
        luggage, self.luggage = self.luggage, None
        assert luggage is not None
        try:
            self.data, self.kwargs = luggage.take(only=True)
        except Uncopyable as error:
            raise ConfigurationError(
                f"the data or keyword arguments of {self.node_id} were sent to its process and cannot be unpickled "
                f"there: {type(error.cause).__name__}: {error.cause}. What they need must be importable there"
            ) from error.cause

    def construct(self, round: int | None, argument: None) -> None:
        self.open_luggage()
        super().construct(round, argument)

    def analyze(self, round: int, aggregate: Any) -> Any:
        return super().analyze(round, aggregate.take() if type(aggregate) is Parcel else aggregate)

    def _contribution(self, held: list[Any]) -> Any:
        if type(held[0]) in ATOMIC or type(held[0]) is CoroutineType:
            return super()._contribution(held)
        if self.checks is not None:
            self.checks.left(held[0])
        parcel = pack(held.pop(), self.hold)
        return parcel, parcel.nbytes


class Host:
    """The nodes of one run in this process. `deliver` takes batches of messages for the run, from any thread; `hold`
    writes buffers of contributions into memory that both sides share, `hold_once` those of peers' messages."""

    def __init__(self, start: Start, deliver: Callable[[list[Any]], None], hold: Hold, hold_once: Hold) -> None:
        self._start = start
        self.outbox = Outbox(deliver)
        self._hold = hold
        self._hold_once = hold_once
        self._cls = unpack(start.classes, start.sources, sys.modules["__main__"])
        if start.seed is not None:
            import numpy  # noqa: F401  (its global generator is seeded before the first method imports it)
        self._dispatcher = Dispatcher()
        self._engine = LocalEngine(
            Auto(max_threads=start.max_threads), ordered=start.seed is not None, cores=start.cores
        )
        self._board = board = Board(
            log=lambda log, append: self._post(Logged(log, append)),
            find=lambda finding: self._post(Found(finding)),
            at=self._engine.at,
        )
        board.route = self._route
        board.progress = lambda node_id, progress: self._post(Progressed(node_id, progress))
        board.waits_grew = self._dispatcher.look_again
        self._lookout = None
        if start.checks is not None:
            self._lookout = Lookout(
                start.checks, [self._cls], board.find, lambda text: self._post(Printed("stderr", f"{text}\n"))
            )
        self._seats: dict[int, HostedSeat] = {}
        self._mailboxes: dict[int, Mailbox[Request]] = {}
        self._posted = 0
        self._requested = 0
        self._told: Waiting | None = None
        self._scope: anyio.CancelScope | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    async def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until `stop`. `ready` is called once messages may come."""
        self._loop = asyncio.get_running_loop()
        end: Mailbox[None] = Mailbox(1)
        self._engine.attach(self._dispatcher)
        self._dispatcher.resting = self._rest
        self._dispatcher.spawn("host", _until(end))
        with anyio.CancelScope() as self._scope:
            try:
                ready()
                await self._dispatcher.run()
            finally:
                self._board.stop()
                end.close()
                for mailbox in self._mailboxes.values():
                    mailbox.close()
                self._engine.stop(0.1)
                self.outbox.flush()

    def stop(self) -> None:
        """End; calls that wait are thrown out. From any thread."""
        self._stopped = True
        self._board.stop()
        if self._loop is not None and self._scope is not None:
            self._on_loop(self._scope.cancel)

    def receive(self, messages: Sequence[ToHost]) -> None:
        """Take a batch of messages; from one thread, in the order that they were sent in."""
        try:
            for message in messages:
                match message:
                    case Request():
                        self._on_loop(lambda request=message: self._request(request))  # type: ignore[misc]
                    case Posted(envelope):
                        self._board.deliver(opened(envelope))
                        self._posted += 1
                        self._dispatcher.look_again()
                    case Settle():
                        self._settle(message)
                    case GiveUp(node_id, text):
                        self._give_up(node_id, text)
        except Exception as error:  # the run must hear of it, or it would wait for ever
            self._post(Unready(f"{type(error).__name__}: {error}"))

    # Nodes

    def _settle(self, settle: Settle) -> None:
        start = self._start
        seat = HostedSeat(settle, self._cls, start.seed, self._hold)
        seat.flame = FlameSession(
            seat,
            self._board,
            start.participants,
            data_type=start.data_type,
            store=LocalStore.of(start.storage_dir, settle.node_id),
        )
        if self._lookout is not None:
            seat.checks = self._lookout.of(seat)
        mailbox: Mailbox[Request] = Mailbox(2)
        self._seats[settle.position] = seat
        self._mailboxes[settle.position] = mailbox
        self._on_loop(lambda: self._dispatcher.spawn(seat.node_id, self._serve(seat, mailbox)))

    def _request(self, request: Request) -> None:
        self._requested += 1
        for position in request.positions:
            self._mailboxes[position].put(request)
        self._dispatcher.look_again()

    async def _serve(self, seat: HostedSeat, mailbox: Mailbox[Request]) -> None:
        """The life of a hosted node."""
        while True:
            request = await mailbox
            call = Call(seat, request.kind, request.round, request.argument)
            del request  # and with it the parcel, once every node of the host has taken it
            try:
                value = await call
            except (StarError, NodeStopped, KeyboardInterrupt) as error:
                self._fail(seat, error)
            else:
                call.argument = None
                value, nbytes = value if type(value) is tuple else (None, 0)
                self._post_soon(Outcome(seat.position, value, nbytes, seat.seconds, seat.moved_in))

    def _fail(self, seat: HostedSeat, error: BaseException) -> None:
        if self._stopped:
            return
        cause, error.__cause__ = error.__cause__, None
        frames = "" if cause is None or seat.secretive else _own_frames(cause)
        text = "" if cause is None else _describe(cause)
        self._post(Failed(seat.position, pickle.dumps(error), pickle.dumps(_picklable(cause)), text, frames))

    # Messages of the nodes

    def _route(self, envelope: Envelope) -> None:
        self._post(Posted(packed(envelope, self._hold_once)))

    def _give_up(self, node_id: str, text: str) -> None:
        for wait in self._board.waits:
            if wait.seat.node_id == node_id:
                self._board.give_up(wait, TimeoutError(text))
                return

    def _post(self, message: FromHost) -> None:
        """Send at once, after whatever is to be sent already; from any thread."""
        self.outbox.add(message)
        self.outbox.flush()

    def _post_soon(self, message: FromHost) -> None:
        """Send with the next batch, which leaves when the loop has its turn."""
        if self.outbox.add(message):
            self._on_loop(self.outbox.flush)

    def _rest(self, idle: bool) -> None:
        if not idle:
            self._engine.rested()
            return
        # The count first: what has come after it was read makes the report a stale one, for the run to see.
        received = self._posted + self._requested
        dispatcher, board = self._dispatcher, self._board
        if not dispatcher.open_calls or dispatcher.async_calls or board.waiting_nodes < dispatcher.open_calls:
            return
        waits = board.waits
        if any(wait.deadline is not None for wait in waits):
            return
        report = Waiting(received, [(wait.seat.node_id, wait.what) for wait in waits])
        if report != self._told:
            self._told = report
            self._post(report)

    def _on_loop(self, callback: Callable[[], object]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed: the host has ended
            return


async def _until(end: Mailbox[None]) -> None:
    await end


def packed(envelope: Envelope, hold: Hold) -> Envelope:
    """An envelope for another process. Raises Uncopyable."""
    payload = envelope.payload
    if type(payload) not in ATOMIC and type(payload) is not Parcel:
        payload = pack(payload, hold)
    return Envelope(
        envelope.sender, envelope.receiver, envelope.kind, envelope.category, envelope.id, envelope.number, payload
    )


def opened(envelope: Envelope) -> Envelope:
    """An envelope that has come from another process. Raises Uncopyable."""
    if type(envelope.payload) is Parcel:
        envelope.payload = envelope.payload.take(only=True)
    return envelope


def _own_frames(error: BaseException) -> str:
    """The traceback without the frames of ours that called the user's code."""
    lines = traceback.TracebackException.from_exception(error)
    told: traceback.TracebackException | None = lines
    while told is not None:
        told.stack = traceback.StackSummary.from_list([f for f in told.stack if not f.filename.startswith(_OURS)])
        told = told.__cause__ or told.__context__
    return "".join(lines.format())
