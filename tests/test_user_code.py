"""What user code may do to the run that it is in: threads, forks, tasks left over, finalizers that log, alarms."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from analyses import Average, LocalMean, aggregator, analyzer, report_of

from star_actors import NodeError, NotConvergedError, StarAnalyzer, StarError, StarModelTester
from star_actors.engines.lanes import WorkerLane
from star_actors.session import others
from star_actors.session.board import Board, Wait

SUM = aggregator(aggregation_method=lambda self, results: sum(results))
TOGETHER = aggregator(aggregation_method=lambda self, results: list(results))
ENGINES = ["auto", "serial", "threads", "processes"]
HERE = ["auto", "serial", "threads"]

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What a test leaves to the collector is told here: asyncio shows a task's traceback then, for which Python 3.11
    parses code, and fails where it is parsing already (https://github.com/python/cpython/issues/106905)."""
    yield
    gc.collect()


def script(code: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=60, cwd=cwd
    )


# Tasks and generators that are left on the loop


@pytest.mark.parametrize("engine", HERE)
def test_a_generator_that_ends_badly_does_not_hide_a_failure(engine: str) -> None:
    async def analyze(self: Any, data: Any, last: Any) -> Any:
        async def generate() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                sys.exit(3)

        self.kept = generate()
        await anext(self.kept)
        raise ValueError("the node failed")

    with pytest.raises(NodeError, match="the node failed"):
        report_of([1], analyzer(analyze), SUM, engine=engine)


@pytest.mark.parametrize("engine", HERE)
@pytest.mark.parametrize("nodes", [1, 3])
def test_a_task_of_the_users_own_that_exits_ends_the_run_with_an_error(engine: str, nodes: int) -> None:
    async def exits() -> None:
        raise SystemExit(3)

    async def analyze(self: Any, data: Any, last: Any) -> Any:
        self.task = asyncio.create_task(exits())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return 1

    with pytest.raises(StarError, match="SystemExit") as caught:
        report_of([1] * nodes, analyzer(analyze), SUM, engine=engine)
    assert caught.value.report is not None
    assert caught.value.report.stop_reason == "failed"


@pytest.mark.parametrize("engine", HERE)
def test_tasks_that_are_left_over_are_cancelled(engine: str) -> None:
    ended: list[bool] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def analyze(self: Any, data: Any, last: Any) -> Any:
        self.task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        return 1

    assert report_of([1, 2], analyzer(analyze), SUM, engine=engine).result == 2
    assert ended == [True, True]


@pytest.mark.parametrize("engine", HERE)
def test_a_method_that_cancels_every_task_ends_the_run_with_an_error(engine: str) -> None:
    async def analyze(self: Any, data: Any, last: Any) -> Any:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(StarError) as caught:
        report_of([1, 2], analyzer(analyze), SUM, engine=engine)
    assert caught.value.report is not None
    assert caught.value.report.stop_reason == "failed"


@pytest.mark.parametrize("engine", HERE)
def test_coroutines_of_a_run_that_fails_are_closed(engine: str) -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        async def answers() -> int:
            return 1

        if self.id == "node_3":
            raise ValueError("the node failed")
        return answers()

    with pytest.raises(NodeError, match="the node failed"):
        report_of([1] * 4, analyzer(analyze), SUM, engine=engine)


# Finalizers


class Cyclic:
    """Logs when the collector frees it, wherever that is."""

    def __init__(self, flame: Any) -> None:
        self.flame, self.me = flame, self

    def __del__(self) -> None:
        self.flame.flame_log("freed")


@pytest.mark.parametrize("engine", HERE)
@pytest.mark.parametrize("many", [1, 300])
def test_a_finalizer_may_log(engine: str, many: int) -> None:
    def analyze(self: Any, data: Any, last: Any) -> int:
        for _ in range(many):
            Cyclic(self.flame)
        return 1

    hub = aggregator(
        aggregation_method=lambda self, results: sum(results),
        has_converged=lambda self, result, last: self.num_iterations >= 200,
    )
    report = report_of([1, 2], analyzer(analyze), hub, simple_analysis=False, engine=engine, timeout=60)
    assert {log.message for log in report.logs} == {"freed"}


# Who waits


@pytest.mark.parametrize("engine", ENGINES)
def test_async_nodes_that_wait_for_each_other_are_told_so(engine: str) -> None:
    async def analyze(self: Any, data: Any, last: Any) -> Any:
        others = [id for id in self.partner_node_ids if id != self.flame.get_aggregator_id()]
        await self.flame.aio.await_messages(others, "c")

    with pytest.raises(NodeError, match="nobody is left to send"):
        report_of([1, 2], analyzer(analyze), SUM, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_async_nodes_that_answer_in_time_are_not(engine: str) -> None:
    async def analyze(self: Any, data: Any, last: Any) -> Any:
        if self.id == "node_0":
            await asyncio.gather(self.flame.aio.await_messages(["node_1"], "b"), self.later())
        else:
            await self.flame.aio.await_messages(["node_0"], "a")
            await self.flame.aio.send_message(["node_0"], "b", {})
        return 1

    async def later(self: Any) -> None:
        await asyncio.sleep(0.1)
        await self.flame.aio.send_message(["node_1"], "a", {})

    assert report_of([1, 2], analyzer(analyze, later=later), SUM, engine=engine).result == 2


@pytest.mark.parametrize("engine", HERE)
def test_a_thread_of_the_users_own_may_still_send(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    may_go_on = others.OtherThreads.may_go_on

    def asks(threads: others.OtherThreads, look_again: Any) -> bool:
        asked.set()
        return may_go_on(threads, look_again)

    monkeypatch.setattr(others.OtherThreads, "may_go_on", asks)

    def analyze(self: Any, data: Any, last: Any) -> int:
        def later() -> None:
            assert asked.wait(20)  # everybody waits by now, and a verdict is due
            self.flame.send_message(["node_1"], "go", {})

        if self.id == "node_0":
            threading.Thread(target=later).start()
        else:
            self.flame.await_messages(["node_0"], "go")
        return 1

    assert report_of([1, 2], analyzer(analyze), SUM, engine=engine).result == 2


def test_a_thread_that_never_sends_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "PATIENCE", 0.3)
    release = threading.Event()

    def analyze(self: Any, data: Any, last: Any) -> None:
        threading.Thread(target=release.wait, daemon=True).start()
        self.flame.await_messages([self.flame.get_aggregator_id()], "never")

    try:
        with pytest.raises(NodeError, match="nobody is left to send"):
            report_of([1], analyzer(analyze), SUM)
    finally:
        release.set()


@pytest.mark.parametrize("engine", ["auto", "threads", "processes"])
def test_a_listening_thread_does_not_make_its_node_wait(engine: str) -> None:
    def analyze(self: Any, data: Any, last: Any) -> int:
        if self.id == "node_0":
            listener = threading.Thread(target=lambda: self.flame.await_messages(["node_1"], "stop"))
            listener.start()
            time.sleep(0.2)
            self.flame.send_message(["node_1"], "go", {})
            listener.join()
        else:
            self.flame.await_messages(["node_0"], "go")
            self.flame.send_message(["node_0"], "stop", {})
        return 1

    assert report_of([1, 2], analyzer(analyze), SUM, engine=engine).result == 2


def test_a_stall_is_judged_from_one_look() -> None:
    class Seat:
        seed = None

        def __init__(self, node_id: str) -> None:
            self.node_id = node_id

    board = Board(log=lambda log, append: None, find=lambda finding: None, at=lambda deadline, callback: None)

    def opened(node_id: str, *, timeout: float | None = None, holder: object = True) -> Wait:
        from star_actors.session.board import NOT_YET

        wait = Wait(Seat(node_id), lambda: NOT_YET, timeout, "what never comes")  # type: ignore[arg-type]
        wait.holder = holder
        assert board._open(wait, lambda: None)
        return wait

    first = opened("node_0")
    assert board.stalled(2, ()) is None
    second = opened("node_1")
    assert board.stalled(2, ()) == [first, second]
    opened("node_1", holder=None)
    assert board.stalled(2, ()) == [first, second]
    assert board.stalled(3, ()) is None
    opened("node_2", timeout=100.0)
    assert board.stalled(2, ()) is None


@pytest.mark.parametrize("engine", HERE)
def test_a_sender_that_is_named_twice_is_waited_for_once(engine: str) -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        other = "node_1" if self.id == "node_0" else "node_0"
        self.flame.send_message([other], "c", {"x": data})
        self.flame.send_intermediate_data([other], data)
        (message,) = self.flame.await_messages([other, other], "c")[other]
        return message.body["x"], self.flame.await_intermediate_data([other, other])

    result = report_of([1, 2], analyzer(analyze), TOGETHER, engine=engine).result
    assert result == [(2, {"node_1": 2}), (1, {"node_0": 1})]


# Numbers, times, places


@pytest.mark.parametrize("splits", [[1, 2], [1, 2, 3, 4]])
def test_a_seed_holds_for_async_methods(splits: list[int]) -> None:
    async def analyze(self: Any, data: Any, last: Any) -> float:
        first = random.random()
        await asyncio.sleep(0)
        return first

    results = [report_of(splits, analyzer(analyze), TOGETHER, seed=1, engine=engine).result for engine in ENGINES]
    assert results == [results[0]] * len(ENGINES)

    def plain(self: Any, data: Any, last: Any) -> float:
        return random.random()

    assert report_of(splits, analyzer(plain), TOGETHER, seed=1).result == results[0]


def test_async_nodes_are_not_charged_for_waiting() -> None:
    async def analyze(self: Any, data: Any, last: Any) -> int:
        if self.id == "node_0":
            await self.flame.aio.await_messages(["node_1"], "go")
        else:
            await asyncio.sleep(0.2)
            await self.flame.aio.send_message(["node_0"], "go", {})
        return 1

    seconds = report_of([1, 2], analyzer(analyze), SUM).rounds[0].node_seconds
    assert seconds["node_0"] < 0.1 < seconds["node_1"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_result_goes_where_the_call_was_made(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)

    def analyze(self: Any, data: Any, last: Any) -> int:
        os.chdir(elsewhere)
        return 1

    report_of([1], analyzer(analyze), SUM, engine=engine, result_filepath="out.txt")
    assert (tmp_path / "out.txt").read_text() == "1"


def test_data_and_arguments_are_apart_in_worker_processes_too() -> None:
    shared = [1, 2]

    class Appends(StarAnalyzer):
        def __init__(self, flame: Any, also: list[int]) -> None:
            super().__init__(flame)
            self.also = also

        def analysis_method(self, data: Any, aggregator_results: Any) -> int:
            data.append(100)
            return sum(self.also)

    arguments = {"analyzer_kwargs": {"also": shared}}
    results = [report_of([shared, [3]], Appends, SUM, engine=engine, **arguments).result for engine in ENGINES]
    assert results == [6] * len(ENGINES)


# Forks


def _talks(number: int) -> None:
    for _ in range(5):
        print("child", number, "x" * 100_000)


@forks
@pytest.mark.parametrize("engine", ENGINES)
def test_forked_processes_print_without_harm(engine: str) -> None:
    class Forks(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> int:
            context = multiprocessing.get_context("fork")
            children = [context.Process(target=_talks, args=(number,)) for number in range(2)]
            for child in children:
                child.start()
            for _ in range(5):
                print("parent", "y" * 100_000)
            for child in children:
                child.join()
            return sum(child.exitcode or 0 for child in children)

    assert report_of([1, 2], Forks, SUM, engine=engine).result == 0


@forks
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("ending", "status"), [("sys.exit(3)", 3), ("raise ValueError('in the child')", 1), ("return None", 0)]
)
def test_a_child_that_comes_back_out_of_its_method_ends_there(engine: str, ending: str, status: int) -> None:
    done = script(
        f"""
        import os, sys
        from star_actors import StarAggregator, StarAnalyzer, StarModelTester

        class Forks(StarAnalyzer):
            def analysis_method(self, data, last):
                child = os.fork()
                if child == 0:
                    {ending}
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        class Sum(StarAggregator):
            def aggregation_method(self, results):
                return sum(results)

        print("once", StarModelTester([1, 2], Forks, Sum, "s3", engine={engine!r}, timeout=30).result)
        """
    )
    assert done.stdout.splitlines().count(f"once {2 * status}") == 1, done.stderr
    assert done.stdout.count("once") == 1
    assert done.returncode == 0


# Ends


@pytest.mark.parametrize("alarm", [False, True])
def test_a_serial_run_over_its_time_ends_in_async_code_and_beside_an_alarm_of_the_users(alarm: bool) -> None:
    done = script(
        f"""
        import signal, time
        from star_actors import NotConvergedError, StarAggregator, StarAnalyzer, StarModelTester

        class Sleeps(StarAnalyzer):
            async def analysis_method(self, data, last):
                if {alarm}:
                    signal.alarm(100)
                    signal.alarm(0)
                for _ in range(10_000):
                    time.sleep(0.01)

        class Sum(StarAggregator):
            def aggregation_method(self, results):
                return 0

        try:
            StarModelTester([1, 2], Sleeps, Sum, "s3", engine="serial", timeout=0.3)
        except NotConvergedError as error:
            print(error.report.stop_reason)
        """
    )
    assert done.stdout == "timeout\n", done.stderr


def test_ctrl_c_ends_a_serial_run_of_async_nodes_at_the_first_of_them() -> None:
    begun: list[str] = []

    async def analyze(self: Any, data: Any, last: Any) -> int:
        begun.append(self.id)
        signal.raise_signal(signal.SIGINT)
        return 1

    with pytest.raises(KeyboardInterrupt) as caught:
        StarModelTester([1, 2, 3], analyzer(analyze), SUM, "s3", engine="serial")
    assert len(begun) == 1
    assert caught.value.report.stop_reason == "stopped"  # type: ignore[attr-defined]


@pytest.mark.parametrize("engine", ["auto", "threads"])
def test_loops_on_worker_threads_end_with_their_run_and_the_process_with_status_0(engine: str) -> None:
    done = script(
        f"""
        import threading
        from star_actors import NotConvergedError, StarAggregator, StarAnalyzer, StarModelTester

        class Loops(StarAnalyzer):
            def analysis_method(self, data, last):
                while True:
                    pass

        class Sum(StarAggregator):
            def aggregation_method(self, results):
                return 0

        try:
            StarModelTester([1, 2], Loops, Sum, "s3", engine={engine!r}, timeout=0.5)
        except NotConvergedError:
            for thread in threading.enumerate():
                if thread.name.startswith("star-"):
                    thread.join(20)
            print([thread.name for thread in threading.enumerate()])
        """
    )
    assert (done.stdout, done.returncode) == ("['MainThread']\n", 0), done.stderr


def test_a_worker_thread_that_is_ended_from_outside_ends_the_run() -> None:
    failed: list[BaseException] = []
    turned = threading.Event()

    def work(lane: Any) -> None:
        turned.set()

    lane = WorkerLane(work, "star-test", lambda lane: False, failed.append)
    assert turned.wait(20)

    def bad(lane: Any) -> None:
        raise TimeoutError

    lane._work = bad
    lane.submit(object())  # type: ignore[arg-type]
    lane.thread.join(20)
    assert [str(error) for error in failed] == ["a thread of the run was ended from outside by TimeoutError"]


def test_a_system_that_allows_no_more_threads_leaves_the_nodes_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuses(thread: threading.Thread) -> None:
        if thread.name.startswith("star-worker"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuses)

    def analyze(self: Any, data: Any, last: Any) -> int:
        time.sleep(0.02)
        return 1

    assert report_of([1] * 8, analyzer(analyze), SUM).result == 8


def test_a_serial_run_leaves_no_thread_behind_whoever_waits() -> None:
    def analyze(self: Any, data: Any, last: Any) -> int:
        def waits() -> None:
            with contextlib.suppress(BaseException):
                self.flame.await_messages([self.flame.get_aggregator_id()], "x", timeout=0.01)

        threads = [threading.Thread(target=waits) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return 1

    for _ in range(5):
        assert report_of([1], analyzer(analyze), SUM, engine="serial").result == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "star-watch"]


def test_a_program_without_a_console_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert StarModelTester([[1.0], [2.0]], LocalMean, Average, "s3").result == 1.5


def test_a_run_that_is_left_behind_in_async_code_names_its_node() -> None:
    release = threading.Event()

    async def analyze(self: Any, data: Any, last: Any) -> None:
        while not release.is_set():
            with contextlib.suppress(BaseException):
                time.sleep(0.05)  # noqa: ASYNC251  (it holds up its loop: that is what is tested)

    try:
        with pytest.raises(NotConvergedError) as caught:
            report_of([1], analyzer(analyze), SUM, timeout=0.3)
        assert caught.value.report is not None
        assert caught.value.report.nodes[0].stuck
    finally:
        release.set()
        for thread in threading.enumerate():
            if thread.name == "star-run":
                thread.join(20)
