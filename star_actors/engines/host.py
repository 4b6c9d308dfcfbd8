"""A host: where nodes live that run outside the caller's process. It has the dispatcher, the board, the seats and the
lanes of a run of its own; one small actor for each node takes requests and sends outcomes back."""

from __future__ import annotations

import asyncio
import pickle
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from ..checks import Lookout
from ..dispatcher import Dispatcher
from ..errors import _OURS, NodeStopped, StarError, _describe, _picklable
from ..mailbox import Mailbox
from ..messages import Contribution
from ..options import Auto
from ..secrecy import hush
from ..session.board import Board, Envelope
from ..session.flame import FlameSession
from ..session.others import OtherThreads
from ..session.storage import LocalStore
from .hosted import HostedSeat, RoutedBoard, opened, packed
from .lanes import Call
from .local import LocalEngine
from .outbox import Outbox
from .parcels import Hold
from .scripts import unpack
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

if TYPE_CHECKING:
    from .states import State

__all__ = ["Host"]


class Host:
    """The nodes of one run in this process. `deliver` takes batches of messages for the run, from any thread; `hold`
    writes buffers of contributions into memory that both sides share, `hold_once` those of peers' messages."""

    def __init__(self, start: Start, deliver: Callable[[list[Any]], None], hold: Hold, hold_once: Hold) -> None:
        self._start = start
        self.outbox = Outbox(deliver)
        self._hold = hold
        self._hold_once = hold_once
        self._cls = unpack(start.classes, start.sources, start.origin)
        if start.seed is not None:
            import numpy  # noqa: F401  (its global generator is seeded before the first method imports it)
        self._dispatcher = Dispatcher()
        self._engine = LocalEngine(
            Auto(max_threads=start.max_threads), ordered=start.seed is not None, cores=start.cores
        )
        self._board = board = (RoutedBoard if start.keeps_state else Board)(
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
        self._accepted: dict[str, int] = {}
        self._posted = 0
        self._requested = 0
        self._told: Waiting | None = None
        self._others = OtherThreads(self._engine.at)
        self._scope: anyio.CancelScope | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False
        self._thread = 0
        self.left_behind: list[Call] = []

    async def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until `stop`. `ready` is called once messages may come."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
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
                self.left_behind = self._engine.stop(0.1)
                self.outbox.flush()

    def stop(self) -> None:
        """End; calls that wait are thrown out. From any thread."""
        self._stopped = True
        self._board.stop()
        if self._loop is not None and self._scope is not None:
            self._on_loop(self._scope.cancel)

    @property
    def busy_threads(self) -> list[int]:
        """The threads on which a call runs; from any thread."""
        home = [self._thread] if self._dispatcher.home.current is not None else []
        return [*home, *self._engine.busy_threads]

    def receive(self, messages: Sequence[ToHost]) -> None:
        """Take a batch of messages; from one thread, in the order that they were sent in."""
        try:
            for message in messages:
                match message:
                    case Request():
                        self._on_loop(lambda request=message: self._request(request))  # type: ignore[misc]
                    case Posted(envelope, number):
                        with self._board.lock:
                            Board.deliver(self._board, opened(envelope))
                            self._accepted[envelope.receiver] = number
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
        if settle.secretive and self._loop is not None:
            hush(self._loop)
        seat.flame = FlameSession(
            seat,
            self._board,
            start.participants,
            data_type=start.data_type,
            store=LocalStore.of(start.storage_dir, settle.node_id),
        )
        if self._lookout is not None:
            seat.checks = self._lookout.of(seat)
        if start.keeps_state:
            self._settle_state(seat, settle.state)
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
            request = await mailbox.receive()
            call = Call(seat, request.kind)
            outcome = call.outcome(request.round, request.argument)
            del request  # and with it the parcel, once every node of the host has taken it
            try:
                sent = await outcome
            except (StarError, NodeStopped, KeyboardInterrupt) as error:
                self._fail(seat, error)
            else:
                call.argument = None
                value, nbytes = (sent.value, sent.nbytes) if isinstance(sent, Contribution) else (None, 0)
                del sent
                state, seat.state = seat.state, None
                self._post_soon(Outcome(seat.position, value, nbytes, seat.seconds, seat.moved_in, state))

    def _fail(self, seat: HostedSeat, error: BaseException) -> None:
        if self._stopped:
            return
        cause, error.__cause__ = error.__cause__, None
        frames = "" if cause is None or seat.secretive else _own_frames(cause)
        text = "" if cause is None else _describe(cause)
        self._post(Failed(seat.position, pickle.dumps(error), pickle.dumps(_picklable(cause)), text, frames))

    def _settle_state(self, seat: HostedSeat, state: State | None) -> None:
        from .states import StateKeeper, resume

        keeper = StateKeeper(seat)

        def keep() -> State:
            with self._board.lock:  # nothing may come to the node in between
                return keeper.take(self._accepted.get(seat.node_id, 0))

        seat.begin_keeping, seat.keep = keeper.begin, keep
        if state is not None:
            seat.open_luggage()
            resume(seat, state)
            self._accepted[seat.node_id] = state.accepted

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
        tasks = dispatcher.async_tasks
        if not dispatcher.open_calls or tasks is None or self._others.may_go_on(dispatcher.look_again):
            return
        waits = board.stalled(dispatcher.open_calls, tasks)
        if waits is None:
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
    await end.receive()


def _own_frames(error: BaseException) -> str:
    """The traceback without the frames of ours that called the user's code."""
    lines = traceback.TracebackException.from_exception(error)
    told: traceback.TracebackException | None = lines
    while told is not None:
        told.stack = traceback.StackSummary.from_list([f for f in told.stack if not f.filename.startswith(_OURS)])
        told = told.__cause__ or told.__context__
    return "".join(lines.format())
