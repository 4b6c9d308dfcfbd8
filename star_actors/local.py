"""The star inside one process: both actors' exchange, over mailboxes, seats and a record."""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Generator, Iterator
from time import perf_counter
from typing import Any

from .actors import run_aggregator, run_analyzer
from .checks import SecretWatch
from .config import RunConfig
from .dispatcher import Dispatcher
from .engines.lanes import Call
from .engines.seats import Seat
from .errors import NodeError, NotConvergedError
from .findings import Finding
from .isolation import ATOMIC, Broadcast, Pages, Uncopyable, nbytes_of, private_copy
from .mailbox import Mailbox
from .messages import Aggregate, Contribution, Finished
from .report import Record, Summary
from .rounds import ends_run
from .secrecy import without_text

__all__ = ["LocalStar"]


class LocalStar:
    """One run's nodes and their messages.

    `round_ended` hears of each finished round, `sent` of each aggregate that goes to the analyzers; `pause` is a
    mailbox that must hold something before the next round, or the release, may begin (None: nobody steps the run);
    `release` releases the final result.
    """

    def __init__(
        self,
        config: RunConfig,
        seats: list[Seat],
        dispatcher: Dispatcher,
        record: Record,
        *,
        round_ended: Callable[[int], None],
        sent: Callable[[], None],
        release: Callable[[Any, int], None],
        pause: Mailbox[None] | None,
        pages: Pages,
    ) -> None:
        self.config = config
        self.record = record
        self.dispatcher = dispatcher
        self.round_ended = round_ended
        self.sent = sent
        self.release = release
        self.pause = pause
        self.pages = pages
        self.secrets: SecretWatch | None = None
        self.seats = seats
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
    """An analyzer's exchange. Nothing here is a coroutine function: a coroutine for each step would cost more than the
    step."""

    def __init__(self, star: LocalStar, seat: Seat, mailbox: Mailbox[Aggregate | Finished]) -> None:
        self._seat = seat
        self._up = star.up
        self._mailbox = mailbox
        self._analyze = Call(seat, "analyze")

    def ready(self) -> Awaitable[None]:
        return Call(self._seat, "construct").outcome()

    def load(self) -> Awaitable[None]:
        return DONE  # the split is in the node's seat already

    def analyze(self, round: int, aggregate: Any) -> Awaitable[Contribution]:
        return self._analyze.outcome(round, aggregate)

    def contribute(self, contribution: Contribution) -> Awaitable[Aggregate | Finished]:
        self._up.put(contribution)
        return self._mailbox.receive()


class _Done:
    """An awaitable that is done."""

    def __await__(self) -> Generator[Any, Any, None]:
        return _NOTHING  # type: ignore[return-value]  # an iterator that ends at once is all that await needs


_NOTHING: Iterator[Any] = iter(())
DONE = _Done()


class LocalAggregator:
    """The aggregator's exchange."""

    def __init__(self, star: LocalStar, seat: Seat) -> None:
        self._star = star
        self._seat = seat
        self._bytes_up = 0
        self._arrived: list[list[Contribution]] = []
        star.record.arrived = self._arrived
        self._broadcast: Any = None
        self._started = perf_counter()

    def ready(self) -> Awaitable[None]:
        return Call(self._seat, "construct").outcome()

    async def receive(self) -> list[Contribution]:
        contributions = await self._star.up.drain()
        self._arrived.append(contributions)
        self._bytes_up += sum([contribution.nbytes for contribution in contributions])
        return contributions

    async def aggregate(self, round: int, contributions: list[Any]) -> Any:
        result = await Call(self._seat, "aggregate").outcome(round, contributions)
        self._seconds = self._seat.seconds
        return result

    async def converged(self, round: int, result: Any) -> bool:
        star = self._star
        converged = False
        call = Call(self._seat, "converge")
        try:
            converged = await call.outcome(round, result)
        except NodeError:
            if not star.config.simple_analysis:
                raise
            star.record.find(
                Finding(
                    "convergence-test-raises",
                    f"has_converged raises {type(call.error).__name__} in a one-round run",
                    "FLAME calls it there too, and would stop: make it work with last_result=None",
                    self._seat.node_id,
                    round,
                )
            )
        self._seat.seconds += self._seconds
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
            await star.pause.receive()
        self._bytes_up = 0
        star.record.arrived = self._arrived = []
        self._started = perf_counter()
        star.sent()
        message = Aggregate(aggregate.round, self._broadcast)
        for mailbox in star.down:
            mailbox.put(message)

    async def submit(self, result: Any) -> None:
        star = self._star
        if star.pause is not None:
            await star.pause.receive()
        number = star.record.finished_rounds - 1
        await Call(self._seat, "release").outcome(number, lambda: star.release(result, number))

    async def finish(self, round: int) -> None:
        for mailbox in self._star.down:
            mailbox.put(Finished(round))

    def _finish_round(self, round: int, result: Any, *, last: bool) -> None:
        """Write the round down, with a copy of the aggregate, and make ready what goes to the analyzers."""
        star = self._star
        if star.secrets is not None:
            star.secrets.known(result)
        kept, nbytes = result, nbytes_of(result)
        if type(result) in ATOMIC:
            self._broadcast = result
        elif last:
            try:
                kept, nbytes = (None, 0) if star.config.withholds else private_copy(result)
            except Uncopyable:  # it is never sent, so it need not be copied
                kept = Summary(type(result).__name__, 0)
        else:
            try:
                self._broadcast = broadcast = Broadcast(result, pages=star.pages)
            except Uncopyable as error:
                cause = without_text(error) if self._seat.secretive else error
                raise NodeError.of(
                    cause,
                    node_id=self._seat.node_id,
                    role=self._seat.role,
                    round=round,
                    doing="sending its aggregate to the analyzers",
                ) from cause
            kept, nbytes = None if star.config.withholds else broadcast.keep(), broadcast.nbytes
        star.record.finish_round(
            kept,
            nbytes,
            perf_counter() - self._started,
            array("d", [seat.seconds for seat in star.seats]),
            self._bytes_up,
            nbytes * len(star.down),
        )
        star.round_ended(round)
