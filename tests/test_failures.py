"""A failure at any phase ends the run at once: the right error, the partial report, nothing left behind."""

from __future__ import annotations

import asyncio
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from analyses import Average, LocalMean, aggregator, analyzer, report_of

from star_actors import (
    AsyncStarModelTester,
    ConfigurationError,
    DeliveryError,
    EncodingError,
    NodeError,
    NotConvergedError,
    StarModelTester,
)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.name.startswith("left")]
    assert left == []


class Boom(Exception):
    pass


async def each(tester: AsyncStarModelTester, body: Any) -> None:
    async for round in tester:
        body(round)


def fail(*args: Any) -> Any:
    raise Boom("on purpose")


def fail_in_round_2(self: Any, *args: Any) -> Any:
    if self.num_iterations == 2:
        raise Boom("on purpose")
    return 1.0


def never_and_fail_in_round_2(self: Any, *args: Any) -> bool:
    fail_in_round_2(self)
    return False


def fail_in_constructor(self: Any, flame: Any) -> None:
    raise Boom("on purpose")


PHASES = [
    ("an analyzer's constructor", {"analyzer": analyzer(None, __init__=fail_in_constructor)}, "node_0", None),
    ("the aggregator's constructor", {"aggregator": aggregator(__init__=fail_in_constructor)}, "node_2", None),
    ("the first round", {"analyzer": analyzer(fail)}, "node_0", 0),
    ("a later round", {"analyzer": analyzer(fail_in_round_2)}, "node_0", 2),
    ("the aggregation", {"aggregator": aggregator(aggregation_method=fail_in_round_2)}, "node_2", 2),
    ("the convergence test", {"aggregator": aggregator(has_converged=never_and_fail_in_round_2)}, "node_2", 2),
]


@pytest.mark.parametrize("engine", ["auto", "serial", "threads"])
@pytest.mark.parametrize(("classes", "node_id", "round"), [p[1:] for p in PHASES], ids=[p[0] for p in PHASES])
def test_a_node_that_raises_ends_the_run_wherever_it_is(
    classes: dict[str, Any], node_id: str, round: int | None, engine: str
) -> None:
    with pytest.raises(NodeError, match="on purpose") as caught:
        report_of([[1.0], [2.0]], simple_analysis=False, engine=engine, **classes)
    error = caught.value
    # Where both analyzers fail, on threads of their own, either may be first.
    assert error.node_id == node_id or (node_id == "node_0" and engine == "threads")
    assert error.round == round
    assert error.role == ("aggregator" if node_id == "node_2" else "default")
    assert isinstance(error.__cause__, Boom)
    assert error.report is not None
    assert error.report.stop_reason == "failed"
    assert len(error.report.rounds) == (round or 0)


def test_the_text_ends_in_the_users_own_file_and_line() -> None:
    with pytest.raises(NodeError) as caught:
        report_of([1.0], analyzer(fail))
    text = str(caught.value)
    assert f"{__file__}:" in text
    assert 'raise Boom("on purpose")' in text
    assert "star_actors/engines" not in text


@pytest.mark.parametrize(
    "raised", [SystemExit(3), asyncio.CancelledError(), GeneratorExit(), pytest.skip.Exception("x")]
)
def test_every_exception_out_of_user_code_is_that_nodes_failure(raised: BaseException) -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        raise raised

    with pytest.raises(NodeError) as caught:
        report_of([1.0], analyzer(analyze))
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize("raised", [SystemExit(3), asyncio.CancelledError(), Boom()])
def test_the_same_holds_in_an_async_method(raised: BaseException) -> None:
    async def analyze(self: Any, data: Any, last: Any) -> Any:
        await asyncio.sleep(0)
        raise raised

    with pytest.raises(NodeError) as caught:
        report_of([1.0], analyzer(analyze))
    assert type(caught.value.__cause__) is type(raised)


def test_a_missing_super_init_is_named() -> None:
    probe = analyzer(None, __init__=lambda self, flame: None)
    with pytest.raises(NodeError, match=r"super\(\).__init__\(flame\)") as caught:
        report_of([1.0], probe)
    assert isinstance(caught.value.__cause__, ConfigurationError)


def test_a_result_that_cannot_be_encoded_is_kept_on_the_report() -> None:
    with pytest.raises(EncodingError) as caught:
        report_of([[2.0]], output_type="bytes")
    assert caught.value.report is not None
    assert caught.value.report.result == 2.0
    assert len(caught.value.report.rounds) == 1


def test_a_result_whose_delivery_fails_is_kept_on_the_report(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"

    def aggregate(self: Any, results: Any) -> Any:
        target.mkdir()
        return results[0]

    with pytest.raises(DeliveryError) as caught:
        report_of([[2.0]], aggregator=aggregator(aggregation_method=aggregate), result_filepath=target)
    assert caught.value.report is not None
    assert caught.value.report.result == 2.0


def test_errors_pickle_with_their_report_and_cause() -> None:
    with pytest.raises(NodeError) as caught:
        report_of([1.0], analyzer(fail))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.node_id, again.round, str(again)) == ("node_0", 0, str(caught.value))
    assert isinstance(again.__cause__, Boom)
    assert again.report.stop_reason == "failed"


def test_a_failing_sibling_throws_out_a_waiting_node_whose_finally_runs() -> None:
    cleaned: list[str] = []

    def analyze(self: Any, data: Any, last: Any) -> Any:
        if data == "fails":
            raise Boom("on purpose")
        try:
            return self.flame.await_messages([self.flame.get_aggregator_id()], "never")
        finally:
            cleaned.append(self.id)

    with pytest.raises(NodeError, match="on purpose"):
        report_of(["waits", "fails"], analyzer(analyze))
    assert cleaned == ["node_0"]


@pytest.mark.parametrize("engine", ["auto", "serial", "threads"])
def test_a_method_that_never_returns_cannot_hold_the_run_past_its_timeout(engine: str) -> None:
    release = threading.Event()

    def analyze(self: Any, data: Any, last: Any) -> Any:
        threading.current_thread().name = "left behind" if engine != "serial" else threading.current_thread().name
        release.wait()

    try:
        with pytest.raises(NotConvergedError, match=r"timeout=0.2") as caught:
            report_of([1.0], analyzer(analyze), engine=engine, timeout=0.2)
    finally:
        release.set()
        for thread in threading.enumerate():
            if thread.name == "left behind":
                thread.join()
    assert caught.value.report is not None
    assert caught.value.report.stop_reason == "timeout"


def test_a_deadlock_is_diagnosed_at_once() -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        return self.flame.await_intermediate_data(self.partner_node_ids[:1], "share")

    with pytest.raises(NodeError, match="nobody is left to send"):
        report_of([1, 2], analyzer(analyze))


async def test_cancelling_the_awaiting_task_stops_every_node() -> None:
    waiting = threading.Event()
    stopped: list[str] = []

    def analyze(self: Any, data: Any, last: Any) -> Any:
        try:
            waiting.set()
            self.flame.await_messages(self.partner_node_ids[:1], "never", timeout=3600)
        finally:
            stopped.append(self.id)

    tester = AsyncStarModelTester([1], analyzer(analyze), Average, "s3")

    async def whole() -> Any:
        return await tester

    task = asyncio.create_task(whole())
    await asyncio.to_thread(waiting.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped == ["node_0"]
    assert tester.report.stop_reason == "stopped"


async def test_the_callers_loop_stays_responsive_whatever_the_methods_do() -> None:
    turns: list[int] = []
    go = threading.Event()

    def analyze(self: Any, data: Any, last: Any) -> Any:
        assert go.wait(30)
        return 1.0

    async def tick() -> None:
        for i in range(5):
            turns.append(i)
            await asyncio.sleep(0)
        go.set()

    async def whole() -> Any:
        return await AsyncStarModelTester([1], analyzer(analyze), Average, "s3")

    report, _ = await asyncio.gather(whole(), tick())
    assert report.result == 1.0
    assert turns == [0, 1, 2, 3, 4]


async def test_rounds_come_one_by_one_and_the_next_starts_when_it_is_asked_for() -> None:
    begun: list[int] = []

    def analyze(self: Any, data: Any, last: Any) -> Any:
        begun.append(self.num_iterations)
        return float(self.num_iterations)

    numbers = []
    async with AsyncStarModelTester([1], analyzer(analyze), Average, "s3", simple_analysis=False) as tester:
        async for round in tester:
            assert begun == list(range(round.number + 1))
            numbers.append(round.number)
    assert numbers == list(range(6))
    assert tester.result == 5.0


async def test_leaving_the_block_early_releases_nothing(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    async with AsyncStarModelTester(
        [[1.0]], LocalMean, Average, "s3", simple_analysis=False, result_filepath=target
    ) as tester:
        async for round in tester:
            if round.number == 5:  # the last round: even then the release has not been asked for
                break
    assert tester.report.stop_reason == "stopped"
    assert tester.result is None
    assert not target.exists()


async def test_an_exception_of_the_body_passes_through_unwrapped() -> None:
    async with AsyncStarModelTester([[1.0]], LocalMean, Average, "s3", simple_analysis=False) as tester:
        with pytest.raises(Boom):
            await each(tester, fail)


async def test_a_nodes_failure_rises_from_the_iteration() -> None:
    tester = AsyncStarModelTester([1], analyzer(fail_in_round_2), Average, "s3", simple_analysis=False)
    numbers: list[int] = []
    with pytest.raises(NodeError):
        await each(tester, lambda round: numbers.append(round.number))
    assert numbers == [0, 1]


async def test_the_blocking_call_works_inside_a_running_loop() -> None:
    assert StarModelTester([[1.0]], LocalMean, Average, "s3").result == 1.0


def test_the_blocking_call_works_from_a_thread_twice_and_two_at_once() -> None:
    results: list[float] = []
    meet = threading.Barrier(2)

    def analyze(self: Any, data: Any, last: Any) -> Any:
        meet.wait(30)
        return data

    def call(value: float) -> None:
        results.append(StarModelTester([value], analyzer(analyze), Average, "s3").result)

    threads = [threading.Thread(target=call, args=(value,), name="left to join") for value in (1.0, 2.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [1.0, 2.0]


def test_one_ctrl_c_ends_a_stuck_run() -> None:
    import signal
    import subprocess

    script = (
        "import threading\n"
        "from star_actors import *\n"
        "class A(StarAnalyzer):\n"
        "    def analysis_method(self, data, last):\n"
        "        print('stuck', flush=True)\n"
        "        threading.Event().wait()\n"
        "class G(StarAggregator):\n"
        "    def aggregation_method(self, results): return 1\n"
        "try:\n"
        "    StarModelTester([1], A, G, 's3')\n"
        "except KeyboardInterrupt as error:\n"
        "    print(error.report.stop_reason, error.report.nodes[0].stuck, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stuck\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stopped True\n"
        assert process.wait(30) == 0
