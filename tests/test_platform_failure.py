"""A star on FLAME that fails: who is told, what of, in which order, and how soon nodes that are gone are noticed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fake_flamesdk import Federation

from star_actors import NodeError, NotConvergedError, StarAggregator, StarAnalyzer, StarError
from star_actors.platform import AsyncStarModel, NodeRun

SECRET = "patient 4711"
QUICK = 1.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hub() -> Iterator[Federation]:
    with Federation() as hub, hub.installed():
        for node_id in hub.analyzers:
            hub.s3(node_id, {"numbers": b"123"})
        yield hub


class Analyzer(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return 1


class Raises(StarAnalyzer):
    """analyzer-0 raises in round 1."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        if self.id == "analyzer-0" and self.num_iterations == 1:
            raise RuntimeError(SECRET)
        return 1


class Endless(StarAggregator):
    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return sum(analysis_results)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return False


def star(analyzer: type[StarAnalyzer] = Analyzer, aggregator: type[StarAggregator] = Endless, **options: Any) -> Any:
    return AsyncStarModel(analyzer, aggregator, "s3", **{"simple_analysis": False, "node_timeout": QUICK, **options})


def node_error(end: NodeRun | BaseException) -> NodeError:
    assert isinstance(end, NodeError), end
    return end


async def test_a_raising_analyzer_ends_the_star_with_its_own_exception(hub: Federation) -> None:
    ends = await hub.star(lambda: star(Raises))
    own = node_error(ends["analyzer-0"])
    assert (own.node_id, own.role, own.round) == ("analyzer-0", "default", 1)
    assert isinstance(own.__cause__, RuntimeError)


@pytest.mark.parametrize("partner", ["analyzer-1", "aggregator-node"])
async def test_partners_of_a_failed_node_fail_naming_it(hub: Federation, partner: str) -> None:
    ends = await hub.star(lambda: star(Raises))
    error = node_error(ends[partner])
    assert (error.node_id, error.role, error.round) == ("analyzer-0", "default", 1)
    assert "RuntimeError" in str(error)


async def test_partners_are_told_before_the_sdk_marks_the_node_failed(hub: Federation) -> None:
    told_when_marked: list[int] = []

    class Noticing(list[tuple[str, str]]):
        def append(self, event: tuple[str, str]) -> None:
            if event == ("analyzer-0", "marked failed"):
                told_when_marked.append(len(hub.letters("failed", sender="analyzer-0")))
            super().append(event)

    hub.happened = Noticing()
    await hub.star(lambda: star(Raises))
    assert told_when_marked == [1]


async def test_every_node_of_a_failed_star_is_marked_failed(hub: Federation) -> None:
    await hub.star(lambda: star(Raises))
    assert {sdk._flame_logger.runstatus for sdk in hub.sdks.values()} == {"failed"}


async def test_the_text_of_a_users_exception_stays_on_its_node(hub: Federation) -> None:
    await hub.star(lambda: star(Raises))
    assert SECRET not in str(hub.sent)
    assert SECRET not in str(hub.logs)


async def test_the_aggregator_passes_a_failure_on_to_who_was_not_reached(hub: Federation) -> None:
    def lose_the_direct_word(receiver: str, message: dict[str, Any]) -> int | None:
        letter = message.get("star_actors", {})
        lost = letter.get("kind") == "failed" and receiver == "analyzer-1" and message["meta"]["sender"] == "analyzer-0"
        return 0 if lost else None

    hub.faults.append(lose_the_direct_word)
    ends = await hub.star(lambda: star(Raises, node_timeout=60.0))
    assert node_error(ends["analyzer-1"]).node_id == "analyzer-0"


async def test_a_failure_ends_partners_whose_own_code_waits_for_the_failed_node(hub: Federation) -> None:
    class Peers(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            if self.id == "analyzer-0":
                raise RuntimeError
            return self.flame.await_intermediate_data(["analyzer-0"], message_category="share")

    ends = await hub.star(lambda: star(Peers, node_timeout=60.0))
    assert node_error(ends["analyzer-1"]).node_id == "analyzer-0"


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), KeyError("x"), KeyboardInterrupt()])
async def test_whatever_a_method_raises_is_that_nodes_failure(hub: Federation, error: BaseException) -> None:
    class Throws(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            if self.id == "analyzer-0":
                raise error

    ends = await hub.star(lambda: star(Throws))
    assert node_error(ends["analyzer-0"]).__cause__ is error


@pytest.mark.parametrize("phase", ["__init__", "aggregation_method", "has_converged"])
async def test_a_failing_aggregator_ends_the_star_in_every_phase_of_its_life(hub: Federation, phase: str) -> None:
    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise LookupError(SECRET)

    failing = type("Failing", (Endless,), {phase: fail})
    ends = await hub.star(lambda: star(aggregator=failing))
    assert isinstance(node_error(ends[hub.aggregator]).__cause__, LookupError)
    assert {node_error(ends[node_id]).node_id for node_id in hub.analyzers} == {hub.aggregator}


async def test_a_contribution_that_cannot_be_pickled_names_the_part(hub: Federation) -> None:
    class Unpicklable(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            return {"model": [threading.Lock()]} if self.id == "analyzer-0" else 1

    ends = await hub.star(lambda: star(Unpicklable))
    assert '["model"][0]' in str(node_error(ends["analyzer-0"]))


async def test_a_run_that_never_converges_ends_after_max_iterations(hub: Federation) -> None:
    ends = await hub.star(lambda: star(max_iterations=3))
    assert isinstance(ends[hub.aggregator], NotConvergedError)
    assert "NotConvergedError" in str(node_error(ends["analyzer-0"]))
    assert not hub.released


async def test_a_killed_analyzer_is_noticed_though_it_says_nothing(hub: Federation) -> None:
    class Dies(Analyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            if self.id == "analyzer-0" and self.num_iterations == 1:
                hub.kill(self.id)
            return 1

    ends = await hub.star(lambda: star(Dies))
    error = node_error(ends[hub.aggregator])
    assert error.node_id == "analyzer-0"
    assert "vanished" in str(error)
    assert node_error(ends["analyzer-1"]).node_id == "analyzer-0"


async def test_a_killed_aggregator_is_noticed_by_the_analyzers(hub: Federation) -> None:
    class Dies(Endless):
        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            hub.kill(self.id)
            return 1

    ends = await hub.star(lambda: star(aggregator=Dies))
    assert "vanished" in str(node_error(ends["analyzer-0"]))


async def test_a_node_that_computes_longer_than_node_timeout_is_no_dead_node(hub: Federation) -> None:
    reminded = threading.Event()
    send = hub.send

    def count(sender: str, receivers: list[str], message: dict[str, Any]) -> None:
        send(sender, receivers, message)
        if len(hub.letters("hello", sender=hub.aggregator)) > 8:  # each a quarter of node_timeout after the other
            reminded.set()

    class Computes(Analyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            assert reminded.wait(30)
            return 1

    hub.send = count  # type: ignore[method-assign]
    ends = await hub.star(lambda: star(Computes, simple_analysis=True, node_timeout=0.3))
    assert all(isinstance(end, NodeRun) for end in ends.values()), ends


async def test_round_timeout_ends_a_round_that_a_living_node_never_finishes(hub: Federation) -> None:
    stuck = threading.Event()

    class Stuck(Analyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            if self.id == "analyzer-1":
                stuck.wait(60)
            return 1

    ends = await hub.star(lambda: star(Stuck, round_timeout=0.5))
    stuck.set()
    assert "round_timeout=0.5" in str(node_error(ends[hub.aggregator]))
    assert node_error(ends[hub.aggregator]).node_id == "analyzer-1"


async def test_a_node_that_is_started_anew_in_the_middle_of_a_run_ends_it(hub: Federation) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Blocks(Analyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            if self.num_iterations == 1:
                loop.call_soon_threadsafe(begun.set)
                hub.closed.wait(60)
            return 1

    def part(*nodes: str) -> asyncio.Task[dict[str, NodeRun | BaseException]]:
        return asyncio.create_task(hub.star(lambda: star(Blocks, node_timeout=60.0), nodes))

    others, first_life = part("analyzer-1", hub.aggregator), part("analyzer-0")
    await begun.wait()
    hub.kill("analyzer-0")
    first_life.cancel()
    await asyncio.wait([first_life])
    hub.dead.clear()
    second_life = await part("analyzer-0")
    assert "started anew" in str(node_error((await others)[hub.aggregator]))
    assert node_error(second_life["analyzer-0"]).node_id == "analyzer-0"


async def test_a_log_of_type_error_ends_the_star_instead_of_sleeping(hub: Federation) -> None:
    class Logs(Analyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            if self.id == "analyzer-0":
                self.flame.flame_log("cannot go on", log_type="error")
            return 1

    ends = await hub.star(lambda: star(Logs))
    assert "cannot go on" in str(node_error(ends["analyzer-0"]))
    assert node_error(ends[hub.aggregator]).role == "default"


@pytest.mark.parametrize("status", ["failed", "stopped"])
async def test_a_node_that_the_platform_marks_ends_its_part(hub: Federation, status: str) -> None:
    class Marked(Endless):
        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            hub.sdks["analyzer-0"]._flame_logger.runstatus = status
            return 1

    ends = await hub.star(lambda: star(aggregator=Marked, node_timeout=60.0))
    assert f"marked analyzer-0 (default) as {status}" in str(node_error(ends["analyzer-0"]))


async def test_a_stopped_node_tells_its_partners(hub: Federation) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Begins(Analyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            loop.call_soon_threadsafe(begun.set)
            hub.closed.wait(60)

    async def stopped_node() -> Any:
        with hub.on("analyzer-0"):
            return await star(Begins, node_timeout=60.0)

    task = asyncio.create_task(stopped_node())
    others = asyncio.create_task(hub.star(lambda: star(node_timeout=60.0), ["analyzer-1", hub.aggregator]))
    await begun.wait()
    task.cancel()
    ends = await others
    assert "it was stopped" in str(node_error(ends[hub.aggregator]))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failure_after_the_release_is_none(hub: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_actors.platform.exchange.FAREWELL", 0.2)
    monkeypatch.setattr("star_actors.platform.exchange.LONG_FAREWELL", 0.2)

    class LastWord(Endless):
        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            hub.kill("analyzer-0")
            return 1

    ends = await hub.star(lambda: star(aggregator=LastWord, simple_analysis=True), [*hub.analyzers, hub.aggregator])
    assert isinstance(ends[hub.aggregator], NodeRun)
    assert isinstance(ends["analyzer-1"], NodeRun)
    assert hub.sdks[hub.aggregator]._flame_logger.runstatus == "executed"


async def test_an_analysis_without_an_aggregator_is_refused() -> None:
    with Federation() as hub, hub.installed():
        del hub.roles[hub.aggregator]
        ends = await hub.star(star)
    assert all(isinstance(end, StarError) and "no aggregator" in str(end) for end in ends.values())


async def test_a_node_without_data_is_refused_and_the_others_are_told() -> None:
    with Federation() as hub, hub.installed():
        hub.roles["analyzer-1"] = "proxy"
        ends = await hub.star(star)
    assert "'proxy'" in str(ends["analyzer-1"])
    assert node_error(ends[hub.aggregator]).node_id == "analyzer-1"


async def test_no_thread_or_task_is_left_after_a_failure(hub: Federation) -> None:
    tasks = asyncio.all_tasks()
    await hub.star(lambda: star(Raises))
    assert asyncio.all_tasks() == tasks
    of_nodes = [thread for thread in threading.enumerate() if thread.name.startswith("star node")]
    for thread in of_nodes:
        thread.join(10)
    assert not any(thread.is_alive() for thread in of_nodes)
