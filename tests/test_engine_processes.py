"""Nodes in worker processes: the same results as in one process, the same errors, and nothing left behind."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import hosted_nodes as nodes
import pytest

from star_actors import (
    AsyncStarModelTester,
    ConfigurationError,
    History,
    NodeError,
    NotConvergedError,
    Privacy,
    Processes,
    StarAnalyzer,
    StarModelTester,
)

TWO = Processes(workers=2)

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="worker processes share memory on Linux only")


def children() -> set[int]:
    """The processes that this one has started, those that nobody has waited for included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            found |= set(map(int, (task / "children").read_text().split()))
    return found


def descriptors() -> Counter[str]:
    """The sockets, pipes and shared memory that this process has open."""
    found: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            target = str(link.readlink())
            found[target] += target.startswith(("socket:", "pipe:", "anon_inode:", "/memfd:"))
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After every run, however it ended: no process, no descriptor, and with it no shared memory."""
    before, opened = children(), descriptors()
    yield
    # An earlier test's may have gone meanwhile.
    assert not children() - before
    assert not descriptors() - opened


def run(analyzer: Any, aggregator: Any = nodes.Collect, splits: Any = (1, 2), engine: Any = TWO, **options: Any) -> Any:
    options = {"simple_analysis": True, **options}
    return StarModelTester(list(splits), analyzer, aggregator, "s3", engine=engine, **options)


class TestResults:
    def test_a_run_has_the_result_rounds_and_logs_that_it_has_in_one_process(self) -> None:
        splits = [[1, 2, 3, 4], [5, 6, 7, 8], [0.1, 0.2, 0.3]]
        here, there = (
            run(nodes.Mean, nodes.Average, splits, engine, simple_analysis=False).report for engine in ("serial", TWO)
        )
        assert there.result == here.result
        assert [round.aggregate for round in there.rounds] == [round.aggregate for round in here.rounds]
        assert [(round.bytes_up, round.bytes_down) for round in there.rounds] == [
            (round.bytes_up, round.bytes_down) for round in here.rounds
        ]
        for node in here.nodes:
            assert [log for log in there.logs if log.node_id == node.id] == [
                log for log in here.logs if log.node_id == node.id
            ]
        assert [node.progress for node in there.nodes] == [node.progress for node in here.nodes]
        assert all(seconds > 0 for seconds in there.rounds[0].node_seconds.values())

    def test_the_report_says_which_worker_a_node_ran_on(self) -> None:
        report = run(nodes.PidOf, splits=(1, 2, 3, 4)).report
        first, second = dict.fromkeys(report.rounds[0].aggregate)
        assert report.rounds[0].aggregate == [first, first, second, second]
        assert [node.ran_on for node in report.nodes] == [
            *[f"worker process 0 (pid {first})"] * 2,
            *[f"worker process 1 (pid {second})"] * 2,
            "run thread",
        ]

    def test_there_are_no_more_workers_than_nodes(self) -> None:
        assert len(set(run(nodes.PidOf, splits=(1, 2), engine=Processes(workers=50)).result)) == 2

    @pytest.mark.parametrize("kind", ["array of 10", "array of 0.4 MB", "array of 2.4 MB", "dict of arrays", "nested"])
    def test_arrays_are_each_nodes_own_and_stay_as_they_were(self, kind: str) -> None:
        here, there = (
            run(
                nodes.Arrays,
                nodes.FirstPlusKept,
                (1.0, 2.0, 3.0, 4.0),
                engine,
                simple_analysis=False,
                analyzer_kwargs={"kind": kind},
            ).report
            for engine in ("serial", TWO)
        )
        assert pickle.dumps(there.result) == pickle.dumps(here.result)
        for ours, theirs in zip(there.rounds, here.rounds, strict=True):
            assert pickle.dumps(ours.aggregate) == pickle.dumps(theirs.aggregate)

    def test_a_seed_gives_the_numbers_that_it_gives_in_one_process(self) -> None:
        here, there = (run(nodes.Draws, splits=(1, 2, 3), engine=engine, seed=5).result for engine in ("serial", TWO))
        assert there == here

    def test_nodes_of_one_worker_run_beside_each_other_where_they_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        splits = [str(tmp_path / "pipe")] * 2
        assert len(set(run(nodes.Meets, splits=splits, engine=Processes(workers=1)).result)) == 1

    def test_every_node_has_arguments_of_its_own(self) -> None:
        names: list[str] = []
        tester = run(
            nodes.EditsItsArguments, splits=(1, 2), engine=Processes(workers=1), analyzer_kwargs={"names": names}
        )
        assert tester.result == [["node_0"], ["node_1"]]
        assert names == []

    def test_what_nodes_print_is_printed_here(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(nodes.Prints)
        assert {"here is node_0", "here is node_1"} <= set(capsys.readouterr().out.splitlines())

    def test_noise_at_the_analyzers_is_accounted_for_here(self) -> None:
        report = run(nodes.PidOf, privacy=Privacy(epsilon=1.0, sensitivity=1.0, noise_at="analyzer")).report
        assert sorted(release.node_id for release in report.privacy.releases) == ["node_0", "node_1"]
        assert all(type(value) is float for value in report.result)

    def test_local_storage_outlives_the_run_in_its_folder(self, tmp_path: Path) -> None:
        class Saves(StarAnalyzer):
            def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
                self.flame.save_intermediate_data(data, "local", tag="mine")
                return self.flame.get_intermediate_data("local", tag="mine")

        history = History(storage_dir=tmp_path)
        run(Saves, splits=("a", "b"), history=history)
        assert run(Saves, splits=("c", "d"), history=history).result == [["a", "c"], ["b", "d"]]


class TestMessages:
    @pytest.mark.parametrize("analyzer", [nodes.Ring, nodes.AsyncRing])
    def test_peers_exchange_across_workers(self, analyzer: Any) -> None:
        here, there = (run(analyzer, splits=(1, 2, 3, 4, 5), engine=engine).result for engine in ("serial", TWO))
        assert there == here

    def test_the_aggregator_answers_analyzers_out_of_its_own_method(self) -> None:
        result = run(nodes.AsksTheAggregator, nodes.AnswersAnalyzers, (1, 2, 3), simple_analysis=False).result
        assert result == [101, 102, 103]

    def test_where_nobody_is_left_to_send_the_run_ends_and_says_who_waits(self) -> None:
        with pytest.raises(NodeError, match=r"node_0 waits for a message.*node_1 waits for a message") as caught:
            run(nodes.WaitsForNobody)
        assert type(caught.value.__cause__) is TimeoutError
        assert caught.value.node_id == "node_0"

    def test_waiting_for_a_node_that_failed_ends_with_its_failure(self) -> None:
        with pytest.raises(NodeError, match="before anything was sent") as caught:
            run(nodes.OneFailsOthersWait, splits=(1, 2, 3))
        assert caught.value.node_id == "node_0"


class TestFailures:
    @pytest.mark.parametrize(
        ("phase", "node_id", "role", "round"),
        [
            ("constructor", "node_1", "default", None),
            ("round 0", "node_1", "default", 0),
            ("round 2", "node_1", "default", 2),
            ("aggregator's constructor", "node_2", "aggregator", None),
            ("aggregation", "node_2", "aggregator", 1),
            ("convergence", "node_2", "aggregator", 1),
        ],
    )
    def test_an_exception_is_the_same_error_as_in_one_process(
        self, phase: str, node_id: str, role: str, round: int | None
    ) -> None:
        kwargs = {"phase": phase}
        errors = []
        for engine in ("serial", TWO):
            with pytest.raises(NodeError) as caught:
                run(
                    nodes.Fails,
                    nodes.FailsToAggregate,
                    (1, 2),
                    engine,
                    simple_analysis=False,
                    analyzer_kwargs=kwargs,
                    aggregator_kwargs=kwargs,
                )
            errors.append(caught.value)
        here, there = errors
        assert str(there) == str(here)
        assert "hosted_nodes.py:" in str(there)
        assert (there.node_id, there.role, there.round) == (node_id, role, round)
        assert type(there.__cause__) is nodes.SiteError
        assert there.__cause__.args == here.__cause__.args  # type: ignore[union-attr]
        assert there.report is not None
        assert there.report.stop_reason == "failed"
        assert len(there.report.rounds) == (round or 0)

    def test_the_users_own_frames_are_shown_with_the_cause(self) -> None:
        with pytest.raises(NodeError) as caught:
            run(nodes.Fails, splits=(1, 2), analyzer_kwargs={"phase": "round 0"})
        assert caught.value.__cause__ is not None
        told = str(caught.value.__cause__.__cause__)
        assert 'raise SiteError(f"in round {self.num_iterations}")' in told
        assert "lanes.py" not in told

    def test_an_exception_that_does_not_come_back_is_told_by_its_text(self) -> None:
        with pytest.raises(NodeError, match=r"StubbornError: stubborn \(7\)") as caught:
            run(nodes.RaisesStubborn)
        assert type(caught.value.__cause__) is RuntimeError

    def test_what_cannot_be_pickled_fails_at_its_sender_and_names_the_part(self) -> None:
        with pytest.raises(NodeError, match=r'\["model"\]\["lock"\].*_thread\.lock') as caught:
            run(nodes.SendsLock)
        assert (caught.value.node_id, caught.value.round) == ("node_1", 0)

    def test_what_cannot_be_unpickled_fails_at_its_sender(self) -> None:
        with pytest.raises(NodeError, match=r"OnlyThere cannot be copied: SiteError: not here") as caught:
            run(nodes.SendsOnlyThere)
        assert (caught.value.node_id, caught.value.round) == ("node_1", 0)

    def test_an_exact_value_that_noise_protects_is_in_no_text(self) -> None:
        with pytest.raises(NodeError) as caught:
            run(nodes.Exact, splits=(41.5, 42.5), epsilon=1.0, sensitivity=1.0)
        chain: BaseException | None = caught.value
        while chain is not None:
            assert "secret" not in str(chain).replace('raise ValueError(f"secret {data}")', "")
            chain = chain.__cause__


class TestDeaths:
    @pytest.mark.parametrize(
        ("phase", "round", "how"),
        [
            ("constructor", None, "was killed by signal 9 (SIGKILL), with node_1 at work there"),
            ("round 0", 0, "was killed by signal 9 (SIGKILL), with node_1 at work there"),
            ("round 2", 2, "was killed by signal 9 (SIGKILL), with node_1 at work there"),
            ("exit", 0, "ended with exit code 3, with node_1 at work there"),
        ],
    )
    def test_a_worker_that_dies_is_its_nodes_failure(self, phase: str, round: int | None, how: str) -> None:
        with pytest.raises(NodeError) as caught:
            run(
                nodes.Dies,
                nodes.FailsToAggregate,
                simple_analysis=False,
                analyzer_kwargs={"phase": phase},
                aggregator_kwargs={"phase": ""},
            )
        assert how in str(caught.value)
        assert "worker process 1 (pid " in str(caught.value)
        assert (caught.value.node_id, caught.value.role, caught.value.round) == ("node_1", "default", round)
        assert type(caught.value.__cause__) is ChildProcessError

    def test_a_worker_that_dies_with_nothing_to_do_ends_the_run_at_once(self) -> None:
        with pytest.raises(NodeError, match=r"SIGKILL\), with no call under way there") as caught:
            run(nodes.Dies, nodes.Kills, simple_analysis=False, analyzer_kwargs={"phase": "idle"})
        assert caught.value.node_id == "node_1"

    async def test_a_stuck_worker_is_ended_with_its_run_and_named(self, tmp_path: Path) -> None:
        returned, pipe = tmp_path / "returned", tmp_path / "pipe"
        os.mkfifo(returned)
        os.mkfifo(pipe)
        pid = 0
        splits = [str(returned), str(pipe)]
        tester = AsyncStarModelTester(splits, nodes.StuckBesideOneThatReturns, nodes.Collect, "s3", engine=TWO)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_whole, tester)
            await anyio.to_thread.run_sync(returned.read_text)
            pid = int(await anyio.to_thread.run_sync(pipe.read_text))
            tasks.cancel_scope.cancel()
        assert pid
        assert not is_alive(pid)
        assert [node.stuck for node in tester.report.nodes] == [False, True, False]
        assert any(
            f"did not return, and was ended with worker process 1 (pid {pid})" in warning
            for warning in tester.report.warnings
        )

    def test_a_run_over_its_time_ends_with_its_workers(self) -> None:
        with pytest.raises(NotConvergedError, match="timeout=1"):
            run(nodes.Stuck, splits=(os.devnull, os.devnull), timeout=1)

    async def test_a_worker_is_ended_with_a_run_whose_aggregator_is_stuck_too(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        release = threading.Event()
        pid = 0

        class StuckHub(nodes.Collect):
            def __init__(self, flame: Any) -> None:
                super().__init__(flame)
                while not release.wait():
                    continue

        tester = AsyncStarModelTester(
            [1], nodes.Announces, StuckHub, "s3", engine=Processes(workers=1), analyzer_kwargs={"pipe": str(pipe)}
        )
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_whole, tester)
                pid = int(await anyio.to_thread.run_sync(pipe.read_text))
                tasks.cancel_scope.cancel()
            assert pid
            assert not is_alive(pid)
            assert tester.report.nodes[-1].stuck
        finally:
            release.set()
            for thread in threading.enumerate():
                if thread.name == "star-run":
                    thread.join()

    def test_what_a_node_said_and_did_before_the_end_is_read_though_the_run_is_over(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)

        class FailsOnceTheNodeIsThere(nodes.Collect):
            def __init__(self, flame: Any) -> None:
                super().__init__(flame)
                pipe.read_text()  # here the loop is held up, so that nothing has been read
                raise nodes.SiteError("on purpose")

        with pytest.raises(NodeError, match="on purpose") as caught:
            run(nodes.Announces, FailsOnceTheNodeIsThere, [1], analyzer_kwargs={"pipe": str(pipe)})
        assert caught.value.report is not None
        assert [log.message for log in caught.value.report.logs] == ["here I am"]

    async def test_leaving_an_iteration_early_ends_the_workers(self) -> None:
        pids: list[int] = []
        async with AsyncStarModelTester(
            [1, 2], nodes.PidOf, nodes.CollectRounds, "s3", simple_analysis=False, engine=TWO
        ) as tester:
            async for round in tester:
                pids = round.aggregate
                break
        assert len(pids) == 2
        assert not any(map(is_alive, pids))


async def _whole(tester: AsyncStarModelTester) -> None:
    await tester


class TestConfiguration:
    def test_without_cloudpickle_the_call_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cloudpickle", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'star-actors\[processes\]'"):
            run(nodes.Mean, engine="processes")

    def test_data_that_cannot_travel_are_named(self) -> None:
        with pytest.raises(ConfigurationError, match=r"data_splits\[1\]\.lock is a _thread\.lock"):
            run(nodes.Mean, splits=([1], nodes.Guarded()))

    def test_arguments_that_cannot_travel_are_named(self) -> None:
        with pytest.raises(ConfigurationError, match=r'analyzer_kwargs\["names"\]\.lock is a _thread\.lock'):
            run(nodes.EditsItsArguments, analyzer_kwargs={"names": nodes.Guarded()})

    def test_a_class_that_cannot_travel_is_named(self) -> None:
        lock = threading.Lock()

        class Locks(StarAnalyzer):
            def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
                with lock:
                    return data

        with pytest.raises(ConfigurationError, match="analyzer=Locks cannot be sent to another process"):
            run(Locks)

    def test_a_module_that_the_worker_lacks_is_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "only_here.py").write_text("from hosted_nodes import Mean\nclass Here(Mean): pass\n")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path)
            import only_here  # type: ignore[import-not-found]  # it is on this path only
        with pytest.raises(ConfigurationError, match="No module named 'only_here'"):
            run(only_here.Here)


SCRIPT = """
import dataclasses, os, sys
from star_actors import NodeError, Processes, StarAggregator, StarAnalyzer, StarModelTester

CALLS = []
SCALE = 10

class OwnError(Exception):
    pass

@dataclasses.dataclass
class Part:
    total: float
    count: int

@dataclasses.dataclass
class Model:
    mean: float
    history: list

class Site:
    def __init__(self, values):
        self.values = values

def summed(values):
    return SCALE * sum(values)

class Analyzer(StarAnalyzer):
    def __init__(self, flame, transform):
        super().__init__(flame)
        self.transform = transform
    def analysis_method(self, data, aggregator_results):
        assert aggregator_results is None or type(aggregator_results).__name__ == "Model"
        if aggregator_results is not None and aggregator_results.mean < 0:
            raise OwnError("negative")
        ids = [i for i in self.partner_node_ids if i != self.flame.get_aggregator_id()]
        self.flame.send_intermediate_data(ids, Part(1.0, 1))
        got = self.flame.await_intermediate_data(ids)
        assert all(isinstance(part, Part) for part in got.values())
        return Part(self.transform(summed(data.values)), len(data.values))

class Aggregator(StarAggregator):
    def aggregation_method(self, analysis_results):
        assert all(isinstance(part, Part) for part in analysis_results)
        mean = sum(p.total for p in analysis_results) / sum(p.count for p in analysis_results)
        return self.flame and globals()["Model"](mean, [self.num_iterations])
    def has_converged(self, result, last_result):
        return self.num_iterations >= 2

def test(splits):
    return StarModelTester([Site(s) for s in splits], Analyzer, Aggregator, "s3", simple_analysis=False,
                           analyzer_kwargs={"transform": lambda x: x + 1}, engine=Processes(workers=2))

print("once", len(CALLS))
print(test([[1, 2], [3, 4]]).result)
try:
    test([[-1, -2], [-3, -4]])
except NodeError as error:
    print(type(error.__cause__) is OwnError, "raise OwnError" in str(error), os.path.basename(__file__) in str(error))
"""


class TestScripts:
    def test_classes_of_a_script_need_no_main_guard(self, tmp_path: Path) -> None:
        (tmp_path / "analysis.py").write_text(SCRIPT)
        done = subprocess.run([sys.executable, "analysis.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        assert lines.count("once 0") == 1
        assert "Model(mean=25.5, history=[2])" in lines
        assert lines[-1] == "True True True"
        assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
            "9 findings (class-in-script, disclosure)"
        ] * 2

    def test_classes_of_a_notebook_travel_and_errors_show_the_cell(self, tmp_path: Path) -> None:
        for package in ("nbclient", "nbformat", "ipykernel"):
            pytest.importorskip(package)
        cell = SCRIPT.replace("os.path.basename(__file__)", "'ipykernel_'")
        (tmp_path / "cell.py").write_text(cell)
        (tmp_path / "notebook.py").write_text(
            "import nbclient, nbformat\n"
            "notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(open('cell.py').read())])\n"
            "nbclient.NotebookClient(notebook, timeout=60, kernel_name='python3').execute()\n"
            "print(''.join(output.get('text', '') for output in notebook.cells[0].outputs))\n"
        )
        done = subprocess.run(
            [sys.executable, "notebook.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True
        )
        lines = done.stdout.split("\n")
        assert "Model(mean=25.5, history=[2])" in lines
        assert "True True True" in lines

    def test_ctrl_c_ends_the_script_and_its_workers(self, tmp_path: Path) -> None:
        ready = tmp_path / "ready"
        os.mkfifo(ready)
        (tmp_path / "analysis.py").write_text(
            textwrap.dedent(f"""
            import os, threading
            from star_actors import Processes, StarAggregator, StarAnalyzer, StarModelTester

            class Waits(StarAnalyzer):
                def analysis_method(self, data, aggregator_results):
                    with open({str(ready)!r}, "w") as pipe:
                        pipe.write(str(os.getpid()))
                    threading.Event().wait()

            class Hub(StarAggregator):
                def aggregation_method(self, analysis_results):
                    return 0

            try:
                StarModelTester([1], Waits, Hub, "s3", engine=Processes(workers=1))
            except KeyboardInterrupt as stopped:
                print(stopped.report.stop_reason, [node.stuck for node in stopped.report.nodes])
            """)
        )
        script = subprocess.Popen([sys.executable, "analysis.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        pid = int(ready.read_text())
        script.send_signal(signal.SIGINT)
        out, _ = script.communicate()
        assert out == "stopped [True, False]\n"
        assert script.returncode == 0
        assert pid
        assert not is_alive(pid)

    def test_workers_end_with_a_caller_that_is_killed(self, tmp_path: Path) -> None:
        ready = tmp_path / "ready"
        os.mkfifo(ready)
        (tmp_path / "analysis.py").write_text(
            textwrap.dedent(f"""
            import os
            from star_actors import Processes, StarAggregator, StarAnalyzer, StarModelTester

            class Waits(StarAnalyzer):
                def analysis_method(self, data, aggregator_results):
                    with open({str(ready)!r}, "w") as pipe:
                        pipe.write(str(os.getpid()))
                    self.flame.await_messages([self.flame.get_aggregator_id()], "never sent", timeout=600)

            class Hub(StarAggregator):
                def aggregation_method(self, analysis_results):
                    return 0

            StarModelTester([1], Waits, Hub, "s3", engine=Processes(workers=1))
            """)
        )
        script = subprocess.Popen([sys.executable, "analysis.py"], cwd=tmp_path)
        watch = os.pidfd_open(int(ready.read_text()))
        script.kill()
        script.wait()
        import select

        assert select.select([watch], [], [], 30)[0], "the worker is still there"
        os.close(watch)
