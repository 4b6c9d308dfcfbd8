"""One node's life on FLAME: the SDK opened, the actor's loop run, the partners told where it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from ..actors import run_aggregator, run_analyzer
from ..errors import ConfigurationError, NodeError, StarError
from .exchange import PlatformAggregator, PlatformAnalyzer
from .link import Link, PartnerFailed, failure_of
from .plan import StarPlan
from .sdk import SdkError, mark_failed, open_sdk
from .threads import NodeThread, in_thread

__all__ = ["NodeRun", "run_node"]

TELLING = 3.0
"""Seconds that a failed node spends on having its partners acknowledge that it failed."""
TELLING_WHEN_STOPPED = 1.0
MARKING = 2.0


class NodeRun(msgspec.Struct, frozen=True):
    """What one node did: its id and role, how many rounds it finished, and the seconds from start to end."""

    node_id: str
    role: str
    rounds: int
    seconds: float


async def run_node(plan: StarPlan, opened: Callable[[Any], object]) -> NodeRun:
    """Run this node's part until the run is over; `opened` is called with the SDK once it is there.

    Raises NodeError where this node's code, a partner or the platform ended the run, and the other errors of a run
    as the tester does. The partners have been told by then.
    """
    began = time.monotonic()
    try:
        # The SDK's server thread must outlive a script that fails, to tell the platform so: it may be no daemon.
        sdk = await in_thread(lambda: open_sdk(plan.config.stream_log_level, plan.local_dp), daemon=False)
    except SdkError as error:
        raise StarError(f"FLAME's SDK could not be started on this node: {error}") from error
    opened(sdk)
    link = Link(sdk, node_timeout=plan.node_timeout, round_timeout=plan.round_timeout)
    thread = NodeThread(f"star node {link.node_id}")
    exchange: PlatformAnalyzer | PlatformAggregator | None = None
    try:
        exchange = _exchange(plan, link, thread)
        if plan.notice is not None:
            await exchange.say(plan.notice, "warn")
        await _live(link, _loop(plan, exchange))
        await exchange.say("Analysis finished!")
        return NodeRun(link.node_id, link.role, exchange.rounds, time.monotonic() - began)
    except BaseException as error:
        if not link.over:
            await _fail(link, error, exchange.round if exchange is not None else None)
        raise
    finally:
        sdk.stopped = link.failed  # what is left of the node's own code waits for nobody
        thread.close()
        if isinstance(exchange, PlatformAggregator):
            exchange.close()


def _exchange(plan: StarPlan, link: Link, thread: NodeThread) -> PlatformAnalyzer | PlatformAggregator:
    if link.role == "aggregator":
        analyzers = [node_id for node_id, role in link.partners.items() if role == "default"]
        if not analyzers:
            raise ConfigurationError("the analysis has no analyzer node: add a node with data to it on the Hub")
        return PlatformAggregator(plan, link, thread, analyzers)
    if link.role != "default":
        raise ConfigurationError(
            f"this node's role is {link.role!r}, and a star has analyzers ('default') and one aggregator: a node "
            "without data can take no part in it, so leave it out of the analysis"
        )
    aggregator_id = link.sdk.get_aggregator_id()
    if aggregator_id is None:
        raise ConfigurationError("the analysis has no aggregator node: add one to it on the Hub")
    return PlatformAnalyzer(plan, link, thread, aggregator_id)


def _loop(plan: StarPlan, exchange: PlatformAnalyzer | PlatformAggregator) -> Coroutine[Any, Any, None]:
    if isinstance(exchange, PlatformAnalyzer):
        return run_analyzer(exchange)
    return run_aggregator(exchange, exchange.analyzer_ids, simple_analysis=plan.config.simple_analysis)


async def _live(link: Link, loop: Coroutine[Any, Any, None]) -> None:
    """Run the actor's loop and the link beside each other; whichever fails first ends both."""
    try:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(link.watch())
            await loop
            watch.cancel()
    except BaseExceptionGroup as failures:
        first = _first(failures)
        raise first from first.__cause__


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure that counts: this node's own before a partner's."""
    leaves = [_first(e) if isinstance(e, BaseExceptionGroup) else e for e in failures.exceptions]
    return min(leaves, key=lambda error: isinstance(error, PartnerFailed))


async def _fail(link: Link, error: BaseException, round: int | None) -> None:
    """Tell the partners, and only then the SDK, whose own way to fail may take long."""
    link.over = link.failed = True
    stopped = isinstance(error, asyncio.CancelledError)
    told = isinstance(error, PartnerFailed) and error.told_by is not None
    if not told or link.role == "aggregator":  # the aggregator passes on what it was told: every node can hear it
        failure = failure_of(error, link.node_id, link.role, round)
        knows = {failure.node_id, error.told_by} if told and isinstance(error, PartnerFailed) else set()
        receivers = [node_id for node_id in link.partners if node_id not in knows]
        letter = link.letter("failed", -1 if round is None else round, failure=failure)
        within = TELLING_WHEN_STOPPED if stopped else TELLING
        await link.deliver(letter, receivers, within, without=failure.node_id)
    if isinstance(error, Exception):
        with suppress(TimeoutError):
            await asyncio.wait_for(in_thread(lambda: mark_failed(link.sdk, _for_the_hub(error, link))), MARKING)


def _for_the_hub(error: Exception, link: Link) -> str:
    """What the platform's log is told: without the text of a user's exception, which may quote a patient's data."""
    cause = error.__cause__
    if isinstance(error, StarError) and (cause is None or isinstance(cause, SdkError)):
        return str(error)
    round = error.round if isinstance(error, NodeError) else None
    where = "" if round is None else f" in round {round}"
    what = type(error if cause is None else cause).__name__
    return f"{link.node_id} ({link.role}) failed{where} with {what}; the log of its container says more"
