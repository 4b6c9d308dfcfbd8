"""The star inside one process: both actors' exchange, over mailboxes, seats and a record."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from time import perf_counter
from typing import Any

from .actors import run_aggregator, run_analyzer
from .config import RunConfig
from .dispatcher import Dispatcher, perform
from .engines.lanes import Call
from .engines.seats import Seat
from .errors import NodeError, NodeStopped, NotConvergedError, StarError
from .findings import Finding
from .isolation import ATOMIC, Broadcast, Uncopyable, nbytes_of, private_copy
from .mailbox import Mailbox
from .messages import Aggregate, Contribution, Finished
from .report import Record, Summary
from .rounds import ends_run

__all__ = ["LocalStar"]


class LocalStar:
    """One run's nodes and their messages.

    `round_ended` hears of each finished round; `pause` is a mailbox that must hold something before the next round,
    or the release, may begin (None: nobody steps the run); `release` releases the final result.
    """

    def __init__(
        self,
        config: RunConfig,
        seats: list[Seat],
        dispatcher: Dispatcher,
        record: Record,
        *,
        round_ended: Callable[[int], None],
        release: Callable[[Any, int], None],
        pause: Mailbox[None] | None,
    ) -> None:
        self.config = config
        self.record = record
        self.dispatcher = dispatcher
        self.round_ended = round_ended
        self.release = release
        self.pause = pause
        self.node_seconds = array("d", bytes(8 * len(seats)))
        self.up: Mailbox[Contribution] = Mailbox(2 * len(seats))
        self.down: list[Mailbox[Aggregate | Finished]] = []
        analyzers = [seat for seat in seats if seat.role == "default"]
        for seat in analyzers:
            mailbox: Mailbox[Aggregate | Finished] = Mailbox(2)
            self.down.append(mailbox)
            dispatcher.spawn(seat.node_id, run_analyzer(LocalAnalyzer(self, seat, mailbox)))
        (hub,) = (seat for seat in seats if seat.role == "aggregator")
        dispatcher.spawn(
            hub.node_id,
            run_aggregator(
                LocalAggregator(self, hub),
                [seat.node_id for seat in analyzers],
                simple_analysis=config.simple_analysis,
            ),
        )

    def close(self) -> None:
        """Close every mailbox."""
        self.up.close()
        for mailbox in self.down:
            mailbox.close()
        if self.pause is not None:
            self.pause.close()


class LocalAnalyzer:
    """An analyzer's exchange."""

    def __init__(self, star: LocalStar, seat: Seat, mailbox: Mailbox[Aggregate | Finished]) -> None:
        self._star = star
        self._seat = seat
        self._mailbox = mailbox

    async def ready(self) -> None:
        call = await perform(Call(self._seat, "construct", None, ()))
        if call.error is not None:
            raise failure_of(call)

    async def load(self) -> None:
        """The split is in the node's seat already."""

    async def analyze(self, round: int, aggregate: Any) -> tuple[Any, int]:
        call = await perform(Call(self._seat, "analyze", round, (aggregate,)))
        if call.error is not None:
            raise failure_of(call)
        self._star.node_seconds[self._seat.position] = call.seconds
        contribution: tuple[Any, int] = call.value
        return contribution

    async def send(self, round: int, value: tuple[Any, int]) -> None:
        self._star.up.put(Contribution(self._seat.node_id, round, value[0], value[1]))

    async def receive(self) -> Aggregate | Finished:
        return await self._mailbox.get()


class LocalAggregator:
    """The aggregator's exchange."""

    def __init__(self, star: LocalStar, seat: Seat) -> None:
        self._star = star
        self._seat = seat
        self._bytes_up = 0
        self._broadcast: Any = None
        self._started = perf_counter()

    async def ready(self) -> None:
        call = await perform(Call(self._seat, "construct", None, ()))
        if call.error is not None:
            raise failure_of(call)

    async def receive(self) -> Contribution:
        contribution = await self._star.up.get()
        self._bytes_up += contribution.nbytes
        return contribution

    async def aggregate(self, round: int, contributions: list[Any]) -> Any:
        call = await perform(Call(self._seat, "aggregate", round, (contributions,)))
        if call.error is not None:
            raise failure_of(call)
        self._star.node_seconds[self._seat.position] = call.seconds
        return call.value

    async def converged(self, round: int, result: Any) -> bool:
        star = self._star
        call = await perform(Call(self._seat, "converge", round, (result,)))
        if call.error is not None:
            if not star.config.simple_analysis or isinstance(call.error, NodeStopped | KeyboardInterrupt):
                raise failure_of(call)
            star.record.find(
                Finding(
                    "convergence-test-raises",
                    f"has_converged raises {type(call.error).__name__} in a one-round run",
                    "FLAME calls it there too, and would stop: make it work with last_result=None",
                    self._seat.node_id,
                    round,
                )
            )
        star.node_seconds[self._seat.position] += call.seconds
        converged = call.value is True
        self._finish_round(round, result, last=ends_run(round, converged, simple_analysis=star.config.simple_analysis))
        return converged

    async def send(self, aggregate: Aggregate) -> None:
        star = self._star
        limit = star.config.max_iterations
        if limit is not None and aggregate.round + 1 >= limit:
            raise NotConvergedError(
                f"has_converged gave no true answer in {limit} rounds (max_iterations={limit}). The report holds every "
                "round and the last aggregate: check has_converged, or raise max_iterations (None: no cap)"
            )
        if star.pause is not None:
            await star.pause.get()
        self._bytes_up = 0
        self._started = perf_counter()
        message = Aggregate(aggregate.round, self._broadcast)
        for mailbox in star.down:
            mailbox.put(message)

    async def submit(self, result: Any) -> None:
        star = self._star
        if star.pause is not None:
            await star.pause.get()
        number = star.record.finished_rounds - 1
        call = await perform(Call(self._seat, "release", number, (lambda: star.release(result, number),)))
        if call.error is not None:
            raise failure_of(call)

    async def finish(self, round: int) -> None:
        for mailbox in self._star.down:
            mailbox.put(Finished(round))

    def _finish_round(self, round: int, result: Any, *, last: bool) -> None:
        """Write the round down, with a copy of the aggregate, and make ready what goes to the analyzers."""
        star = self._star
        kept, nbytes = result, nbytes_of(result)
        if type(result) in ATOMIC:
            self._broadcast = result
        elif last:
            try:
                kept, nbytes = private_copy(result)
            except Uncopyable:  # it is never sent, so it need not be copied
                kept = Summary(type(result).__name__, 0)
        else:
            try:
                self._broadcast = broadcast = Broadcast(result, len(star.down))
            except Uncopyable as error:
                raise NodeError.of(
                    error,
                    node_id=self._seat.node_id,
                    role=self._seat.role,
                    round=round,
                    doing="sending its aggregate to the analyzers",
                ) from error
            kept, nbytes = broadcast.keep(), broadcast.nbytes
        star.record.finish_round(
            kept,
            nbytes,
            perf_counter() - self._started,
            array("d", star.node_seconds),
            self._bytes_up,
            nbytes * len(star.down),
        )
        star.round_ended(round)


METHODS = {
    "construct": "__init__",
    "analyze": "analysis_method",
    "aggregate": "aggregation_method",
    "converge": "has_converged",
    "release": "the release",
}


def failure_of(call: Call) -> BaseException:
    """What ends the run when a call has failed: the user's exception in a NodeError; what is no node's failure as it
    is, which a Ctrl-C, the run's own stopping and our own errors of the release are."""
    error = call.error
    assert error is not None
    seat = call.seat
    if isinstance(error, NodeStopped | KeyboardInterrupt):
        return error
    if isinstance(error, StarError) and (call.kind == "release" or seat.guard is not None):
        return error
    return NodeError.of(
        error, node_id=seat.node_id, role=seat.role, round=call.round, doing=f"{seat.cls.__name__}.{METHODS[call.kind]}"
    )
