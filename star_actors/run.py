"""A run: its own thread and event loop, what may end it, and how control comes back to whoever waits."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import anyio

from .checks import Lookout, SecretWatch, look_at_classes, look_at_shape, plan_of, strict_error
from .config import RunConfig
from .dispatcher import Dispatcher
from .engines.choice import hosts_of, lanes_of
from .engines.lanes import METHODS, Call, throw_into
from .engines.local import LocalEngine
from .engines.seats import Seat
from .errors import NodeStopped, NotConvergedError, PrivacyError, StarError, own_frames_only
from .isolation import Pages
from .local import LocalStar
from .mailbox import Mailbox
from .releases import Releases
from .report import Log, NodeInfo, Record, Report, StopReason
from .secrecy import cut_off, hush
from .session.board import Board
from .session.flame import FlameSession
from .session.others import OtherThreads
from .session.storage import LocalStore

if TYPE_CHECKING:
    from .engines.hosts import Hosts
    from .placement import Placement

__all__ = ["GRACE", "Event", "Run"]

GRACE = 0.4
"""Seconds that a run may take to stop by itself before it is abandoned."""

Event = int | Literal["ended"]
"""What a run tells whoever waits for it: the number of a finished round, or that it has ended."""


class Run:
    """One run of one config.

    `tell` is called, on the run's threads, with each event. `stepwise` makes every round after the first, and the
    release, wait for `advance`. A run ends once, by whoever is first: itself, or `abandon`.
    """

    def __init__(self, config: RunConfig, tell: Callable[[Event], None], *, stepwise: bool) -> None:
        self.config = config
        self.tell = tell
        self.stepwise = stepwise
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self.record = Record(
            [NodeInfo(node.id, node.role, has_data=node.split is not None) for node in config.nodes],
            config.history.max_bytes,
            withhold=config.withholds,
        )
        self.privacy: Placement | None = None
        if config.privacy is not None:
            # Loaded where it is wanted: with its ledger and its mechanisms it is a sixth of what a start costs.
            from .placement import Placement

            self.privacy = Placement(config, self._is_stopped, self._noised)
            self.record.account = self.privacy.ledger.account
        self._secrets = None if not config.withholds else SecretWatch(self.record.find)
        self.deadline = None if config.timeout is None else perf_counter() + config.timeout
        self.said: list[str] = []
        self._started = perf_counter()
        self._context = contextvars.copy_context()
        self._settled = threading.Lock()
        self._abandoned = False
        self._stop_reason: StopReason | None = None
        self._scope: anyio.CancelScope | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pause: Mailbox[None] | None = None
        self._dispatcher: Dispatcher | None = None
        self._board: Board | None = None
        self._thread: threading.Thread | None = None
        self._seats: list[Seat] = []
        self._pages = Pages()
        self._engine: LocalEngine | None = None
        self._hosts: Hosts | None = None
        self._others: OtherThreads | None = None

    # For whoever waits; from any thread

    def start(self) -> None:
        """Begin, on a daemon thread that a stuck method cannot make anybody wait for."""
        self._thread = threading.Thread(
            target=self._context.copy().run, args=(self.run_here,), name="star-run", daemon=True
        )
        self._thread.start()

    def advance(self) -> None:
        """Let the next round, or the release, begin."""
        self._on_loop(self._unpause)

    def cancel(self, reason: StopReason) -> None:
        """Ask the run to stop: no further call begins, and those that wait are thrown out."""
        if self._stop_reason is None:
            self._stop_reason = reason
        if self._board is not None:
            self._board.stop()
        self._on_loop(self._cancel_scope)

    def abandon(self, reason: StopReason) -> None:
        """End the run without it: a method that never returns is left behind on its thread, and named in the report."""
        if not self._settled.acquire(blocking=False):
            self.ended.wait()
            return
        self._stop_reason = self._stop_reason or reason
        if self._board is not None:
            self._board.stop()
        self._abandoned = True
        call = self._dispatcher.current if self._dispatcher is not None else None
        if call is not None and self._thread is not None:
            throw_into(self._thread)
            self._thread.join(0.1)
            if self._thread.is_alive():
                self._mark_stuck(call)
        if self._hosts is not None:
            for lost in self._hosts.kill(0.1):
                self._mark_stuck(lost)
        if self._engine is not None:
            for call in self._engine.stop(0.1):
                self._mark_stuck(call)
        self._end(self._reason_error())

    def join(self) -> None:
        """Wait for the thread of a run that has ended; at once where it was abandoned."""
        if self._thread is not None and self.ended.is_set() and not self._abandoned:
            self._thread.join(1.0)

    def report(self) -> Report:
        """The report as it stands."""
        return self.record.report()

    def over_time(self) -> None:
        """Throw a method that is over the run's time out of the calling thread; for a signal handler."""
        if self._dispatcher is not None and self._dispatcher.current is not None:
            self._stop_reason = self._stop_reason or "timeout"
            raise NodeStopped("the run is over its time")

    def throw_over_time(self, thread: threading.Thread) -> None:
        """The same from another thread; it arrives when `thread` next runs Python code."""
        if self._dispatcher is not None and self._dispatcher.current is not None:
            self._stop_reason = self._stop_reason or "timeout"
            throw_into(thread)

    # The run itself, on its own thread

    def run_here(self) -> None:
        """Run on this thread until the end, with an event loop of its own; the outcome is in `error`."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        loop = asyncio.new_event_loop()
        if self.config.protects:
            hush(loop)
        try:
            error = _run_to_end(loop, self._supervise())
        finally:
            loop.close()
            asyncio._set_running_loop(outer)
        if self._settled.acquire(blocking=False):
            self._end(error)

    async def _supervise(self) -> None:
        self._loop = asyncio.get_running_loop()
        engine = self._engine = LocalEngine(lanes_of(self.config.engine), ordered=self.config.seed is not None)
        dispatcher = Dispatcher()
        star: LocalStar | None = None
        with anyio.CancelScope() as self._scope:
            if self.deadline is not None:
                self._scope.deadline = anyio.current_time() + self.deadline - perf_counter()
            if self._stop_reason is not None:
                self._scope.cancel()
            try:
                hosts = self._hosts = hosts_of(self.config, self.record)
                look_at_classes(self.config, self.record.find)
                look_at_shape(self.config, self.record.warn)
                self.record.known_before = len(self.record.warnings)
                self._board = board = Board(log=self._log, find=self.record.find, at=engine.at)
                self._seats = seats = self._make_seats(board)
                self._dispatcher = dispatcher
                engine.attach(dispatcher)
                self._others = OtherThreads(engine.at)
                dispatcher.resting = lambda idle: self._check_stall() if idle else engine.rested()
                board.waits_grew = dispatcher.look_again
                releases = Releases(self.config, self.record, self.privacy, board, self.said.append)
                board.submit = releases.early
                board.pages = self._pages
                if hosts is not None:
                    await hosts.start(dispatcher, board, seats)
                if self.stepwise:
                    self._pause = Mailbox(2)
                star = LocalStar(
                    self.config,
                    seats,
                    dispatcher,
                    self.record,
                    round_ended=self._round_ended,
                    sent=self._sent,
                    release=releases.final,
                    pause=self._pause,
                    pages=self._pages,
                )
                star.secrets = self._secrets
                await dispatcher.run()
            finally:
                if self._board is not None:
                    self._board.stop()
                if star is not None:
                    star.close()
                if self._hosts is not None:
                    for call in self._hosts.stop(0.2):
                        self._mark_stuck(call)
                for call in engine.stop(0.2):
                    self._mark_stuck(call)
                self._pages.close()
                for seat in self._seats:
                    self._describe(seat, engine)
        if self._scope.cancelled_caught:
            self._stop_reason = self._stop_reason or "timeout"
            error = self._reason_error()
            if error is not None:
                raise error

    def _log(self, log: Log, append: bool) -> None:
        self.record.log(log, append)
        if self._secrets is not None:
            self._secrets.logged(log)

    def _is_stopped(self) -> bool:
        return self._board is not None and self._board.stopped

    def _make_seats(self, board: Board) -> list[Seat]:
        config = self.config
        participants = [(node.id, node.role) for node in config.nodes]
        folder = config.history.storage_dir
        lookout = Lookout(plan_of(config), [config.analyzer, config.aggregator], board.find, self.record.warn)
        seats = []
        for position, node in enumerate(config.nodes):
            cls = config.analyzer if node.role == "default" else config.aggregator
            hosted = self._hosts is not None and node.role == "default"
            seat = Seat(
                position,
                node.id,
                node.role,
                cls,
                {} if hosted else config.kwargs_of(node),
                None if hosted else config.data_of(node),
                self._context.copy(),
                config.seed,
            )
            if self.privacy is not None:
                seat.guard = self.privacy.guard_of(node)
                seat.secretive = self.privacy.computes_exact(node)
            if not hosted:
                store = LocalStore.of(folder, node.id)
                seat.flame = FlameSession(seat, board, participants, data_type=config.data_type, store=store)
                seat.checks = lookout.of(seat)
            seats.append(seat)
        if config.seed is not None:
            import numpy  # noqa: F401  (its global generator is seeded before the first method imports it)
        return seats

    def _noised(self, done: int, total: int) -> None:
        self.record.noised = done, total

    def _sent(self) -> None:
        if self.privacy is not None:
            self.privacy.sent_exact()

    def _round_ended(self, number: int) -> None:
        # Telling wakes another thread, so only where there is something to see.
        if self.stepwise or self.record.has_fresh_logs:
            self.tell(number)

    def _check_stall(self) -> None:
        """Where every node that is busy waits for a message, nobody is left to send it: end the first such wait."""
        board, dispatcher, hosts = self._board, self._dispatcher, self._hosts
        assert board is not None and dispatcher is not None and self._others is not None
        tasks = dispatcher.async_tasks
        far = hosts.stalled() if hosts is not None else []
        if not dispatcher.open_calls or tasks is None or far is None:
            return
        waits = board.stalled(dispatcher.open_calls - len(far), tasks)
        if waits is None or not (waits or far) or self._others.may_go_on(dispatcher.look_again):
            return
        order = {seat.node_id: seat.position for seat in self._seats}
        near = {order[wait.seat.node_id]: wait for wait in reversed(waits)}
        told = sorted([*far, *((position, wait.what) for position, wait in near.items())])
        text = _stall_text([(self._seats[position].node_id, what) for position, what in told])
        first = told[0][0]
        if first in near:
            board.give_up(near[first], TimeoutError(text))
        elif hosts is not None:
            hosts.give_up(first, text)

    def _mark_stuck(self, call: Call) -> None:
        self.record.nodes[call.seat.position].stuck = True
        hosts = self._hosts
        hosted = hosts is not None and hosts.where(call.seat) is not None
        fate = hosts.fate(call.seat) if hosts is not None and hosted else "left behind on its thread"
        self.record.warn(
            f"{call.seat.node_id}: {call.seat.cls.__name__}.{METHODS[call.kind]} did not return, and was {fate}"
        )

    def _describe(self, seat: Seat, engine: LocalEngine) -> None:
        node = self.record.nodes[seat.position]
        host = self._hosts.where(seat) if self._hosts is not None else None
        if host is not None:
            node.ran_on = host
            node.moved = seat.moved_in
        if seat.flame is None:  # it lives elsewhere, or was to
            return
        if seat.lane is not None:
            node.ran_on = "worker thread"
            node.moved = seat.moved_in
        node.progress = seat.flame.get_progress()
        if (
            seat.role == "aggregator"
            and node.has_data
            and self.record.finished_rounds
            and not seat.flame._asked_for_data
        ):
            self.record.warn(
                f"{seat.node_id} is the aggregator and has a data split, which nothing has analysed: get it there with "
                "self.flame.get_s3_data() or get_fhir_data(), or leave node_roles out, so that every split has an "
                "analyzer"
            )
        if engine.capped:
            self.record.warn(
                "more nodes were slow at once than max_threads allows: they took turns; Auto(max_threads=...) raises it"
            )

    def _unpause(self) -> None:
        if self._pause is not None:
            with suppress(anyio.ClosedResourceError):  # the run has ended by itself meanwhile
                self._pause.put(None)

    def _cancel_scope(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def _on_loop(self, callback: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(callback)
            except RuntimeError:  # the loop is closed: the run has ended
                return

    def _reason_error(self) -> BaseException | None:
        if self._stop_reason == "timeout":
            return NotConvergedError(
                f"the run was not done after timeout={self.config.timeout} s; {self.record.finished_rounds} rounds are "
                "finished, and in the report: check for a method that does not return, or raise timeout"
            )
        return None

    def _end(self, error: BaseException | None) -> None:
        """Settle the outcome; called once."""
        error = _leaf(error)
        record = self.record
        record.seconds = perf_counter() - self._started
        if self._stop_reason is not None and isinstance(error, NodeStopped | asyncio.CancelledError | None):
            error = self._reason_error()
        if error is None and self._stop_reason is None:
            error = strict_error(self.config.checks, record.findings)  # what was found after the release counts too
        if error is None:
            record.stop_reason = self._stop_reason or ("single round" if self.config.simple_analysis else "converged")
        elif isinstance(error, NotConvergedError):
            record.stop_reason = self._stop_reason or "max_iterations"
        elif isinstance(error, KeyboardInterrupt):
            record.stop_reason = "stopped"
        elif isinstance(error, PrivacyError) and self.privacy is not None and self.privacy.spent(error):
            record.stop_reason = "budget"
            if self.config.privacy is not None and self.config.privacy.noise_at != "final" and record.finished_rounds:
                # What the budget paid for is a result, and stays one.
                record.result = record.round(record.finished_rounds - 1).aggregate
        else:
            record.stop_reason = "failed"
        if error is not None:
            record.failure = error.summary if isinstance(error, StarError) else type(error).__name__
            if self.config.protects:
                cut_off(error)
            elif isinstance(error, StarError):
                own_frames_only(error)
        if isinstance(error, StarError | KeyboardInterrupt):
            error.report = self.report()  # type: ignore[union-attr]
            if isinstance(error, NotConvergedError) and error.report.rounds:
                error.args = (f"{error.args[0]}\n{error.report.diagnosis}",)
        self.error = error
        self.ended.set()
        self.tell("ended")


def _run_to_end(loop: asyncio.AbstractEventLoop, main: Any) -> BaseException | None:
    """Run `main` on a fresh loop; gives what it raised, or what came out of the loop beside it, as a Ctrl-C does and a
    SystemExit out of a task of the user's own: that cancels it."""
    task = loop.create_task(main)
    escaped: BaseException | None = None
    while not task.done():
        try:
            loop.run_until_complete(task)
        except BaseException as error:
            if not task.done():
                escaped = escaped or error
                task.cancel()
    left = _clear(loop)
    if escaped is None and task.cancelled():
        return StarError("user code cancelled the run's own task: cancel only what the analysis has started itself")
    own = None if task.cancelled() else task.exception()
    if own is not None and escaped is None:
        return own
    escaped = escaped or left
    if escaped is None or isinstance(escaped, KeyboardInterrupt | NodeStopped):
        return escaped
    ended = StarError(f"what an async method left on its event loop ended the run: {type(escaped).__name__}")
    ended.__cause__ = escaped
    return ended


def _clear(loop: asyncio.AbstractEventLoop) -> BaseException | None:
    """End the tasks and generators that user code left on the loop; gives what comes out of it beside them."""
    escaped: BaseException | None = None
    for end in (_end_tasks, loop.shutdown_asyncgens):
        try:
            loop.run_until_complete(end())
        except BaseException as error:
            escaped = escaped or error
    return escaped


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=GRACE / 2)


def _leaf(error: BaseException | None) -> BaseException | None:
    """The failure itself, out of the groups that task groups wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        inner = [e for e in error.exceptions if not isinstance(e, asyncio.CancelledError)]
        error = (inner or error.exceptions)[0]
    return error


def _stall_text(waits: list[tuple[str, str]]) -> str:
    lines = "; ".join(f"{node_id} waits for {what}" for node_id, what in waits[:5])
    more = f"; and {len(waits) - 5} more" if len(waits) > 5 else ""
    return f"nobody is left to send what is waited for, so this would hang on FLAME: {lines}{more}"
