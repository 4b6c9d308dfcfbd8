"""A whole star on FLAME, in one process: rounds, order, and messages that are lost, late or repeated."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fake_flamesdk import Federation

from star_actors import StarAggregator, StarAnalyzer
from star_actors.platform import AsyncStarModel, NodeRun

QUICK = 1.0
"""A node_timeout that has partners reminded after a quarter of a second."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hub() -> Iterator[Federation]:
    with Federation() as hub, hub.installed():
        for i, node_id in enumerate(hub.analyzers):
            hub.s3(node_id, {"numbers": bytes([i + 1, i + 2])})
        yield hub


class Sum(StarAnalyzer):
    """Sends what it has, plus the last aggregate."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return self.num_iterations, sum(data[0]["numbers"]) + (aggregator_results or 0)


class Total(StarAggregator):
    """Adds up; three rounds."""

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        assert [number for number, _ in analysis_results] == [self.num_iterations] * len(analysis_results)
        return sum(value for _, value in analysis_results)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return self.num_iterations >= 2


def iterative(**options: Any) -> AsyncStarModel:
    return AsyncStarModel(Sum, Total, "s3", simple_analysis=False, node_timeout=QUICK, **options)


def one_round() -> AsyncStarModel:
    return AsyncStarModel(Sum, Total, "s3", node_timeout=QUICK)


THREE_ROUNDS = "56"  # 8, then 2 * 8 + 8, then 2 * 24 + 8


async def test_an_iterative_star_runs_to_its_end_at_every_node(hub: Federation) -> None:
    ends = await hub.star(iterative)
    assert [release.result for release in hub.released] == [THREE_ROUNDS]
    assert {(end.role, end.rounds) for end in ends.values() if isinstance(end, NodeRun)} == {
        ("default", 3),
        ("aggregator", 3),
    }


async def test_every_node_counts_as_executed_at_the_end(hub: Federation) -> None:
    await hub.star(iterative)
    assert {sdk._flame_logger.runstatus for sdk in hub.sdks.values()} == {"executed"}


async def test_analyzers_of_a_one_round_star_learn_that_it_is_over(hub: Federation) -> None:
    ends = await hub.star(one_round)
    assert [release.result for release in hub.released] == ["8"]
    assert all(isinstance(end, NodeRun) and end.rounds == 1 for end in ends.values())


async def test_contributions_stand_in_the_order_of_the_participants_not_of_arrival() -> None:
    class Who(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            return self.id

    class List(StarAggregator):
        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            return analysis_results

    with Federation(analyzers=3) as hub, hub.installed():
        arrived: list[str] = []

        def first_is_last(receiver: str, message: dict[str, Any]) -> bool:
            letter = message.get("star_actors", {})
            if letter.get("kind") != "contribution" or message["meta"]["akn_id"] is not None:
                return False
            arrived.append(message["meta"]["sender"])
            if len(set(arrived)) == 3:
                hub.let_go()
                return False
            return bool(message["meta"]["sender"] == "analyzer-0")

        hub.held = first_is_last
        await hub.star(lambda: AsyncStarModel(Who, List, "s3", node_timeout=QUICK))
        assert [release.result for release in hub.released] == ["['analyzer-0', 'analyzer-1', 'analyzer-2']"]


@pytest.mark.parametrize("kind", ["hello", "contribution", "aggregate", "finished"])
async def test_a_lost_message_is_sent_again(hub: Federation, kind: str) -> None:
    lost: list[str] = []

    def lose_the_first(receiver: str, message: dict[str, Any]) -> int | None:
        letter = message.get("star_actors", {})
        if letter.get("kind") == kind and message["meta"]["akn_id"] is None and not lost:
            lost.append(receiver)
            return 0
        return None

    hub.faults.append(lose_the_first)
    ends = await hub.star(iterative)
    assert lost
    assert [release.result for release in hub.released] == [THREE_ROUNDS]
    assert all(isinstance(end, NodeRun) for end in ends.values())


async def test_no_acknowledgement_is_needed_for_a_run_to_go_on(hub: Federation) -> None:
    def lose_acknowledgements(receiver: str, message: dict[str, Any]) -> int | None:
        letter = message.get("star_actors", {})
        return (
            0 if message["meta"]["akn_id"] is not None and letter.get("kind") in ("contribution", "aggregate") else None
        )

    hub.faults.append(lose_acknowledgements)
    await hub.star(iterative)
    assert [release.result for release in hub.released] == [THREE_ROUNDS]


async def test_messages_that_are_written_twice_count_once(hub: Federation) -> None:
    sent_twice: set[str] = set()
    send = hub.send

    def send_all_twice(sender: str, receivers: list[str], message: dict[str, Any]) -> None:
        send(sender, receivers, message)
        if message["meta"]["akn_id"] is None and message.get("star_actors", {}).get("kind") != "failed":
            again = {**message, "meta": {**message["meta"], "id": message["meta"]["id"] + "-again"}}
            sent_twice.add(message["star_actors"]["kind"])
            send(sender, receivers, again)

    hub.send = send_all_twice  # type: ignore[method-assign]
    ends = await hub.star(iterative)
    assert sent_twice == {"hello", "contribution", "aggregate", "finished"}
    assert [release.result for release in hub.released] == [THREE_ROUNDS]
    assert {end.rounds for end in ends.values() if isinstance(end, NodeRun)} == {3}


async def test_a_contribution_that_arrives_rounds_late_is_dropped(hub: Federation) -> None:
    def hold_round_0(receiver: str, message: dict[str, Any]) -> bool:
        letter = message.get("star_actors", {})
        if letter.get("kind") == "aggregate" and letter["round"] == 1:
            hub.let_go()
        held = letter.get("kind") == "contribution" and letter["round"] == 0
        return held and message["meta"]["akn_id"] is None and len(hub.letters("contribution", sender="analyzer-0")) < 2

    hub.held = hold_round_0
    await hub.star(iterative)
    assert len(hub.letters("contribution", sender="analyzer-0")) > 3
    assert [release.result for release in hub.released] == [THREE_ROUNDS]


async def test_an_end_that_is_not_heard_of_is_seen_in_the_platforms_own_mark(
    hub: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("star_actors.platform.exchange.FAREWELL", 0.5)
    monkeypatch.setattr("star_actors.platform.exchange.LONG_FAREWELL", 0.1)

    def strip(receiver: str, message: dict[str, Any]) -> int | None:
        if message["meta"]["category"] == "analysis_finished":
            message.pop("star_actors", None)  # as when user code has cleared the message
        return None

    hub.faults.append(strip)
    ends = await hub.star(iterative)
    assert all(isinstance(ends[node_id], NodeRun) for node_id in hub.analyzers)


async def test_a_webhook_that_answers_5xx_at_first_is_written_to_again(hub: Federation) -> None:
    hub.webhook_errors = 4
    await hub.star(iterative)
    assert hub.happened.count(("aggregator-node", "webhook answered 502")) < 5
    assert any(what == "webhook answered 502" for _, what in hub.happened)
    assert [release.result for release in hub.released] == [THREE_ROUNDS]


async def test_a_node_that_starts_later_is_waited_for(hub: Federation) -> None:
    asked_twice = asyncio.Event()
    loop, send = asyncio.get_running_loop(), hub.send

    def count(sender: str, receivers: list[str], message: dict[str, Any]) -> None:
        send(sender, receivers, message)
        if len(hub.letters("hello", sender="analyzer-1")) > 1:
            loop.call_soon_threadsafe(asked_twice.set)

    hub.send = count  # type: ignore[method-assign]
    early = asyncio.create_task(hub.star(iterative, hub.analyzers))
    await asked_twice.wait()
    late = await hub.star(iterative, [hub.aggregator])
    await early
    assert isinstance(late[hub.aggregator], NodeRun)


async def test_messages_do_not_pile_up_over_the_rounds(hub: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    class Long(Total):
        def has_converged(self, result: Any, last_result: Any) -> bool:
            return self.num_iterations == 40

    monkeypatch.setattr("star_actors.platform.link.SWEEP_AFTER", 0.0)
    await hub.star(lambda: AsyncStarModel(Sum, Long, "s3", simple_analysis=False, node_timeout=QUICK))
    assert max(len(sdk._incoming) + len(sdk._outgoing) for sdk in hub.sdks.values()) < 20


async def test_a_nodes_code_runs_on_one_thread_for_its_life(hub: Federation) -> None:
    threads: dict[str, set[threading.Thread]] = {}

    class Threaded(Sum):
        def __init__(self, flame: Any) -> None:
            super().__init__(flame)
            threads.setdefault(self.id, set()).add(threading.current_thread())

        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            threads[self.id].add(threading.current_thread())
            return super().analysis_method(data, aggregator_results)

    await hub.star(lambda: AsyncStarModel(Threaded, Total, "s3", simple_analysis=False, node_timeout=QUICK))
    assert [len(seen) for seen in threads.values()] == [1, 1]
    assert threads["analyzer-0"] != threads["analyzer-1"]


async def test_no_message_is_removed_while_user_code_waits_with_the_sdk(hub: Federation) -> None:
    """The SDK's waits count the messages that there are, so a removal could lose their wake-up."""

    class Peers(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            others = [p["nodeId"] for p in self.flame.get_participants() if p["nodeType"] == "default"]
            for turn in range(3):
                self.flame.send_intermediate_data(others, (self.id, turn), message_category=f"share-{turn}")
                got = self.flame.await_intermediate_data(others, message_category=f"share-{turn}", timeout=30)
                assert got == {other: (other, turn) for other in others}
            return 1

    class Count(StarAggregator):
        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            return sum(analysis_results)

        def has_converged(self, result: Any, last_result: Any) -> bool:
            return self.num_iterations == 2

    ends = await hub.star(lambda: AsyncStarModel(Peers, Count, "s3", simple_analysis=False, node_timeout=QUICK))
    assert all(isinstance(end, NodeRun) for end in ends.values()), ends
    assert [release.result for release in hub.released] == ["2"]


async def test_methods_may_be_coroutines_and_call_the_sdk_both_ways(hub: Federation) -> None:
    class Async(StarAnalyzer):
        async def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            blocking = self.flame.get_s3_data(["numbers"])
            awaited = await self.flame.aio.get_s3_data(["numbers"])
            assert blocking == awaited == data
            return 0, len(awaited[0]["numbers"])

    class AsyncTotal(StarAggregator):
        async def aggregation_method(self, analysis_results: list[Any]) -> Any:
            return sum(value for _, value in analysis_results)

        async def has_converged(self, result: Any, last_result: Any) -> bool:  # type: ignore[override]
            return self.num_iterations == 1

    ends = await hub.star(lambda: AsyncStarModel(Async, AsyncTotal, "s3", simple_analysis=False, node_timeout=QUICK))
    assert {end.rounds for end in ends.values() if isinstance(end, NodeRun)} == {2}
    assert [release.result for release in hub.released] == ["4"]


async def test_latest_result_and_num_iterations_are_those_of_the_tester(hub: Federation) -> None:
    seen: list[tuple[str, int, Any, Any]] = []

    class Watcher(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            if self.id == "analyzer-0":
                seen.append((self.role, self.num_iterations, aggregator_results, self.latest_result))
            return self.num_iterations

    class WatchingAggregator(StarAggregator):
        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            return analysis_results[0] + 10

        def has_converged(self, result: Any, last_result: Any) -> bool:
            seen.append((self.role, self.num_iterations, result, last_result))
            return self.num_iterations == 1

    await hub.star(lambda: AsyncStarModel(Watcher, WatchingAggregator, "s3", simple_analysis=False, node_timeout=QUICK))
    assert seen == [
        ("default", 0, None, None),
        ("aggregator", 0, 10, None),
        ("default", 1, 10, 10),
        ("aggregator", 1, 11, 10),
    ]


async def test_nodes_share_no_object(hub: Federation) -> None:
    class Editor(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            if aggregator_results is not None:
                aggregator_results.append(self.id)
                return aggregator_results
            return []

    class Joined(StarAggregator):
        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            return [entry for part in analysis_results for entry in part]

        def has_converged(self, result: Any, last_result: Any) -> bool:
            return self.num_iterations == 1

    await hub.star(lambda: AsyncStarModel(Editor, Joined, "s3", simple_analysis=False, node_timeout=QUICK))
    assert [release.result for release in hub.released] == ["['analyzer-0', 'analyzer-1']"]
