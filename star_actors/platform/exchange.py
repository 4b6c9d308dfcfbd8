"""The two exchanges that the actor loops speak on FLAME: user code on the node's thread, letters over the link."""

from __future__ import annotations

import asyncio
import functools
import pickle
import time
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import ConfigurationError, NodeError, NotConvergedError, StarError
from ..messages import Aggregate, Contribution, Finished
from .letters import Letter
from .link import Link
from .plan import StarPlan
from .sdk import is_transient, mark_executed
from .submission import Submission, prepare
from .threads import NodeThread, Outcome, in_thread

__all__ = ["PlatformAggregator", "PlatformAnalyzer"]

FAREWELL = 10.0
"""Seconds that the aggregator waits for acknowledgements of the end before it counts as executed."""
LONG_FAREWELL = 50.0
REPEAT_AFTER = 1.0
"""Seconds after which a partner that asks again is sent again what it was sent."""
PICKLE_PROTOCOL = 4  # FLAME's own; protocol 5 would give read-only arrays back


class _PlatformNode:
    """What both sides share: the user's object, and how its methods are called."""

    def __init__(self, plan: StarPlan, link: Link, thread: NodeThread) -> None:
        self.round: int | None = None
        self.rounds = 0
        self._plan = plan
        self._link = link
        self._thread = thread
        self._node: Any = None
        self._vigil = link.vigil()
        self._sent: Letter | None = None
        self._sent_to: dict[str, float] = {}

    async def say(self, text: str, log_type: str = "info") -> None:
        """One line in the node's log on FLAME."""
        await in_thread(lambda: self._link.sdk.flame_log(text, log_type=log_type))

    async def _construct(self, cls: type[Any], kwargs: dict[str, Any]) -> None:
        def make() -> Any:
            node = cls(flame=self._link.sdk, **kwargs)
            if "num_iterations" not in vars(node):
                raise ConfigurationError(
                    f"{cls.__name__}.__init__ did not call super().__init__(flame), so the node has no id, role or "
                    "flame: call it first"
                )
            return node

        self._node = await self._call(f"{cls.__name__}.__init__", make)
        self.round = 0

    async def _call(self, doing: str, call: Callable[[], Any]) -> Any:
        """Run user code on the node's thread; raises NodeError for whatever it raises."""
        value, error = await self._try(call)
        if error is not None:
            self._fail(error, doing)
        return value

    async def _try(self, call: Callable[[], Any]) -> Outcome:
        with self._link.own_code():
            return await self._thread.call(call)

    def _method(self, name: str) -> str:
        return f"{type(self._node).__name__}.{name}"

    def _fail(self, error: BaseException, doing: str) -> NoReturn:
        raise NodeError.of(
            error, node_id=self._link.node_id, role=self._link.role, round=self.round, doing=doing
        ) from error

    async def _ship(self, letter: Letter, value: Any, receivers: list[str], doing: str) -> int:
        """Store a value for its receivers and write to them; gives its size in bytes."""

        def dump() -> bytes:
            try:
                return pickle.dumps(value, PICKLE_PROTOCOL)
            except Exception as error:
                from ..isolation.uncopyable import uncopyable

                raise uncopyable(value, error, pickle.dumps) from error

        blob = await self._call(doing, dump)
        try:
            stored = await self._link.store(blob, receivers)
            self._sent = Letter(letter.kind, letter.round, letter.life, stored)
            await self._link.post(self._sent, receivers)
        except Exception as error:
            self._fail(error, doing)
        self._sent_to = dict.fromkeys(receivers, time.monotonic())
        self._vigil = self._link.vigil()
        return len(blob)

    async def _open(self, letter: Letter, sender: str) -> tuple[Any, int]:
        """The value that a letter carries, and its size in bytes."""
        try:
            blob = await self._link.fetch(letter)
            return await in_thread(functools.partial(pickle.loads, blob)), len(blob)
        except Exception as error:
            self._fail(error, f"reading what {sender} sent for round {letter.round}")

    async def _remind(self, partners: list[str]) -> None:
        """Write again what was sent last; before the first round, say hello."""
        letter = self._sent if self._sent is not None else self._link.letter("hello", -1)
        try:
            await self._link.post(letter, partners)
        except Exception as error:
            self._fail(error, f"writing to {', '.join(partners)} again")
        self._sent_to.update(dict.fromkeys(partners, time.monotonic()))

    async def _repeat(self, partner: str) -> None:
        """Answer a partner that asks again, unless the answer has just been sent."""
        if self._sent is not None and time.monotonic() - self._sent_to.get(partner, 0.0) >= REPEAT_AFTER:
            await self._remind([partner])


class PlatformAnalyzer(_PlatformNode):
    """An analyzer's exchange on FLAME."""

    def __init__(self, plan: StarPlan, link: Link, thread: NodeThread, aggregator_id: str) -> None:
        super().__init__(plan, link, thread)
        self._aggregator_id = aggregator_id
        self._data: Any = None

    async def ready(self) -> None:
        await self.say("Analyzer started")
        await self._construct(self._plan.config.analyzer, dict(self._plan.config.analyzer_kwargs))
        await self.say("Awaiting contact with aggregator node...")
        await self._link.meet([self._aggregator_id], self.say)
        await self.say("Awaiting contact with aggregator node...success")

    async def load(self) -> None:
        config, sdk = self._plan.config, self._link.sdk
        queries = [config.query] if isinstance(config.query, str) else config.query
        try:
            if config.data_type == "s3":
                self._data = await in_thread(lambda: sdk.get_s3_data(queries or []))
            else:
                self._data = await in_thread(lambda: sdk.get_fhir_data(queries or []))
        except Exception as error:
            self._fail(error, f"loading its data (data_type={config.data_type!r}, query={config.query!r})")
        found = [len(source) for source in self._data or []]
        await self.say(f"Data loaded: {sum(found)} of {config.data_type} from {len(found)} sources")
        if not any(found):
            await self.say(
                f"No data for data_type={config.data_type!r}, query={config.query!r}: check both, and that the "
                "project's data store of this node is of that type",
                "warn",
            )

    async def analyze(self, round: int, aggregate: Any) -> Contribution:
        self.round = self._node.num_iterations = round
        if round:
            self._node.latest_result = aggregate
        value = await self._call(
            self._method("analysis_method"), lambda: self._node.analysis_method(self._data, aggregate)
        )
        self._node.latest_result = value
        return Contribution(self._link.node_id, round, value)

    async def contribute(self, contribution: Contribution) -> Aggregate | Finished:
        letter = self._link.letter("contribution", contribution.round)
        await self._ship(letter, contribution.value, [self._aggregator_id], "sending its contribution")
        self.rounds = contribution.round + 1
        while True:
            for sender, letter in self._link.take():
                if sender != self._aggregator_id:
                    continue
                if letter.kind == "finished":
                    return self._finish(letter.round)
                if letter.kind == "aggregate":
                    self._link.enter_run(sender)
                if letter.kind == "aggregate" and letter.round == contribution.round:
                    value, _ = await self._open(letter, sender)
                    return Aggregate(letter.round, value)
                if letter.kind in ("aggregate", "hello") and letter.round == contribution.round - 1:
                    await self._repeat(sender)  # it asks for what was sent, since it has not seen it
            if self._link.finished:
                return self._finish(contribution.round)
            await self._link.wait((), self._vigil, lambda: [self._aggregator_id], self._remind)

    def _finish(self, round: int) -> Finished:
        self._link.over = True
        self._node.node_finished()
        return Finished(round)


class PlatformAggregator(_PlatformNode):
    """The aggregator's exchange on FLAME; `analyzer_ids` are the analyzers in the order of the participants."""

    def __init__(self, plan: StarPlan, link: Link, thread: NodeThread, analyzer_ids: list[str]) -> None:
        super().__init__(plan, link, thread)
        self.analyzer_ids = analyzer_ids
        self._collecting = 0
        self._reported: set[str] = set()
        self._opening: set[asyncio.Task[Contribution]] = set()

    async def ready(self) -> None:
        await self.say("Aggregator started")
        await self._construct(self._plan.config.aggregator, dict(self._plan.config.aggregator_kwargs))
        await self.say("Awaiting contact with analyzer nodes...")
        await self._link.meet(self.analyzer_ids, self.say)
        await self.say("Awaiting contact with analyzer nodes...success")
        self._vigil = self._link.vigil()

    async def receive(self) -> list[Contribution]:
        while True:
            for sender, letter in self._link.take():
                if letter.kind == "contribution" and sender in self.analyzer_ids:
                    await self._accept(sender, letter)
            done = {task for task in self._opening if task.done()}
            if done:
                self._opening -= done
                return [task.result() for task in done]
            await self._link.wait(self._opening, self._vigil, self._silent, self._remind)

    async def aggregate(self, round: int, contributions: list[Any]) -> Any:
        self.round = self._node.num_iterations = round
        return await self._call(
            self._method("aggregation_method"), lambda: self._node.aggregation_method(contributions)
        )

    async def converged(self, round: int, result: Any) -> bool:
        node, one_round = self._node, self._plan.config.simple_analysis
        value, error = await self._try(lambda: node.has_converged(result, node.latest_result))
        if error is None:
            value, error = await self._try(lambda: bool(value))  # a result's truth may be user code as well
        if error is not None:
            if not one_round or not isinstance(error, Exception):
                self._fail(error, self._method("has_converged"))
            await self.say(
                f"has_converged raises {type(error).__name__} in a one-round run, where its answer does not count; "
                "FLAME's own star would have stopped here",
                "warn",
            )
        node.latest_result = result
        self.rounds = round + 1
        return value is True

    async def send(self, aggregate: Aggregate) -> None:
        limit = self._plan.config.max_iterations
        if limit is not None and aggregate.round + 1 >= limit:
            raise NotConvergedError(
                f"has_converged gave no true answer in {limit} rounds (max_iterations={limit}), so nothing is "
                "released: check has_converged, or raise max_iterations (None: no cap)"
            )
        letter = self._link.letter("aggregate", aggregate.round)
        self._collecting = aggregate.round + 1
        self._reported.clear()
        await self._ship(letter, aggregate.value, self.analyzer_ids, "sending its aggregate to the analyzers")

    async def submit(self, result: Any) -> None:
        plan, sdk = self._plan, self._link.sdk
        config, local_dp = plan.config, plan.local_dp

        def make_ready() -> Submission:
            return prepare(
                result, config.output_type, config.multiple_results, plan.filename, private=local_dp is not None
            )

        ready, error = await self._try(make_ready)  # encoding calls the result's own code
        if isinstance(error, StarError):
            raise error
        if error is not None:
            self._fail(error, "encoding the final result")
        await self.say("Submitting final results" + (" with local differential privacy" if local_dp else ""))
        options: dict[str, Any] = {} if ready.filename is None else {"filename": ready.filename}
        if local_dp is not None:
            options["local_dp"] = local_dp

        def push() -> Any:
            return sdk.submit_final_result(
                ready.result, output_type=ready.output_type, multiple_results=ready.multiple_results, **options
            )

        give_up, pause = time.monotonic() + 60.0, 0.5
        while True:
            try:
                await in_thread(push)
                break
            except Exception as failure:
                # A part that has been released may not be released again: with privacy each release costs epsilon.
                refused = is_transient(failure) and getattr(failure, "status", None) is not None
                if ready.parts > 1 or not refused or time.monotonic() + pause > give_up:
                    self._fail(failure, "submitting the final result")
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)
        await self.say("Submitting final results...success")

    async def finish(self, round: int) -> None:
        self._link.over = True
        self._node.node_finished()
        letter = self._link.letter("finished", round)
        pending = await self._link.deliver(letter, self._link.partners, FAREWELL)
        await in_thread(lambda: mark_executed(self._link.sdk))
        if pending:
            await self.say(f"The end of the run is not acknowledged by {', '.join(sorted(pending))}", "warn")
            await self._link.deliver(letter, pending, LONG_FAREWELL)

    def close(self) -> None:
        """Leave what is still being fetched."""
        for task in self._opening:
            task.cancel()

    async def _accept(self, sender: str, letter: Letter) -> None:
        self._link.enter_run(sender)
        if letter.round == self._collecting and sender not in self._reported:
            self._reported.add(sender)
            self._opening.add(asyncio.create_task(self._contribution(sender, letter)))
        elif letter.round == self._collecting - 1:
            await self._repeat(sender)  # it asks for the aggregate, since it has not seen it

    async def _contribution(self, sender: str, letter: Letter) -> Contribution:
        value, nbytes = await self._open(letter, sender)
        return Contribution(sender, letter.round, value, nbytes)

    def _silent(self) -> list[str]:
        return [node_id for node_id in self.analyzer_ids if node_id not in self._reported]
