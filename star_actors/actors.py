"""The two actors: the life of an analyzer and of the aggregator, the same in the tester and on FLAME."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from .exchange import AggregatorExchange, AnalyzerExchange
from .messages import Aggregate, Finished
from .rounds import RoundBook, ends_run

__all__ = ["run_aggregator", "run_analyzer"]


async def run_analyzer(exchange: AnalyzerExchange) -> None:
    """Analyse and send, round after round, until the aggregator says that the run is over."""
    await exchange.ready()
    await exchange.load()
    aggregate: Any = None
    for number in count():
        message = await exchange.contribute(await exchange.analyze(number, aggregate))
        if isinstance(message, Finished):
            return
        aggregate = message.value


async def run_aggregator(exchange: AggregatorExchange, node_ids: Sequence[str], *, simple_analysis: bool) -> None:
    """Collect every contribution of a round, aggregate, test for convergence; then send on, or release and finish."""
    await exchange.ready()
    book = RoundBook(node_ids)
    while True:
        while not book.complete:
            book.record(await exchange.receive())
        result = await exchange.aggregate(book.round, book.contributions())
        converged = await exchange.converged(book.round, result)
        if ends_run(book.round, converged, simple_analysis=simple_analysis):
            await exchange.submit(result)
            await exchange.finish(book.round)
            return
        await exchange.send(Aggregate(book.round, result))
        book.open_next()
