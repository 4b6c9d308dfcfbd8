"""Nodes on the workers of a real Dask cluster of separate processes, some of which are killed."""

import gc
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import hosted_nodes as nodes
import pytest

from star_actors import (
    AsyncStarModelTester,
    ConfigurationError,
    Dask,
    NodeError,
    StarAnalyzer,
    StarModelTester,
)

distributed = pytest.importorskip("distributed")

import dask  # noqa: E402
import numpy as np  # noqa: E402  (nothing here is of use without Dask)

from star_actors.engines import cluster as cluster_module  # noqa: E402
from star_actors.run import Run  # noqa: E402


@pytest.fixture(scope="module")
def three_workers() -> Iterator[Any]:
    # A local cluster looks at the workers that it has lost once more after this time, and gives up those that happen
    # to be lost again.
    with (
        dask.config.set(  # pyright: ignore[reportPrivateImportUsage]
            {  # pyright: ignore[reportPrivateImportUsage]
                "distributed.deploy.lost-worker-timeout": "1 hour"
            }
        ),
        distributed.LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0") as started,
    ):
        yield started


@pytest.fixture
def cluster(three_workers: Any) -> Any:
    """The cluster, once all of its workers are there again."""
    with distributed.Client(three_workers, set_as_default=False) as client:
        client.wait_for_workers(3, timeout=60)
    return three_workers


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("star-"):
            thread.join(10)
            assert not thread.is_alive(), thread.name


def run(analyzer: Any, aggregator: Any, splits: Any, engine: Any, **options: Any) -> Any:
    options = {"simple_analysis": True, **options}
    return StarModelTester(list(splits), analyzer, aggregator, "s3", engine=engine, **options)


def threads_of_hosts() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("star-")]


def runs_alive() -> int:
    """How many runs something still refers to."""
    gc.collect()
    return sum(type(found) is Run for found in gc.get_objects())


class TestResults:
    @pytest.mark.parametrize("given", ["cluster", "client", "address"])
    def test_a_run_has_the_result_and_logs_that_it_has_in_one_process(self, cluster: Any, given: str) -> None:
        splits = [[1, 2, 3, 4], [5, 6, 7, 8], [0.1, 0.2, 0.3], [7]]
        here = run(nodes.Mean, nodes.Average, splits, "serial", simple_analysis=False).report
        with distributed.Client(cluster) as client:
            engine = Dask({"cluster": cluster, "client": client, "address": cluster.scheduler_address}[given])
            there = run(nodes.Mean, nodes.Average, splits, engine, simple_analysis=False).report
            assert all(names == [] for names in client.run(threads_of_hosts).values())
        assert there.result == here.result
        assert [round.aggregate for round in there.rounds] == [round.aggregate for round in here.rounds]
        for node in here.nodes:
            assert [log for log in there.logs if log.node_id == node.id] == [
                log for log in here.logs if log.node_id == node.id
            ]
        workers = {f"Dask worker {address}" for address in cluster.scheduler_info["workers"]}
        assert {node.ran_on for node in there.nodes} == {*workers, "run thread"}

    def test_many_nodes_live_on_one_worker(self, cluster: Any) -> None:
        pids = run(nodes.PidOf, nodes.Collect, range(30), Dask(cluster)).result
        assert len(set(pids)) == 3
        assert pids == sorted(pids, key=pids.index)

    @pytest.mark.parametrize("kind", ["array of 2.4 MB", "nested"])
    def test_arrays_are_each_nodes_own_and_stay_as_they_were(self, cluster: Any, kind: str) -> None:
        here, there = (
            run(
                nodes.Arrays,
                nodes.FirstPlusKept,
                (1.0, 2.0, 3.0, 4.0),
                engine,
                simple_analysis=False,
                analyzer_kwargs={"kind": kind},
            ).report
            for engine in ("serial", Dask(cluster))
        )
        assert pickle.dumps(there.result) == pickle.dumps(here.result)

    @pytest.mark.parametrize("analyzer", [nodes.Ring, nodes.AsyncRing])
    def test_peers_exchange_across_workers(self, cluster: Any, analyzer: Any) -> None:
        here, there = (
            run(analyzer, nodes.Collect, (1, 2, 3, 4, 5), engine).result for engine in ("serial", Dask(cluster))
        )
        assert there == here

    async def test_it_works_in_a_running_loop_with_a_client_of_that_loop(self, cluster: Any) -> None:
        async with distributed.Client(cluster.scheduler_address, asynchronous=True) as client:
            report = await AsyncStarModelTester([1, 2], nodes.PidOf, nodes.Collect, "s3", engine=Dask(client))
        assert os.getpid() not in report.result

    def test_a_cluster_within_this_process_works_too(self) -> None:
        with distributed.LocalCluster(n_workers=2, processes=False, dashboard_address=":0") as here:
            assert run(nodes.Ring, nodes.Collect, (1, 2, 3), Dask(here)).result
            assert run(nodes.PidOf, nodes.Collect, (1, 2), Dask(here)).result == [os.getpid()] * 2

    def test_a_cluster_that_lives_on_keeps_no_run(self) -> None:
        with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as here:
            before = runs_alive()
            for _ in range(3):
                run(nodes.PidOf, nodes.Collect, (1, 2), Dask(here))
            assert runs_alive() == before

    def test_classes_of_a_test_travel_by_value(self, cluster: Any) -> None:
        class Local(StarAnalyzer):
            def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
                return data + offset

        offset = 3
        assert run(Local, nodes.Collect, (1, 2), Dask(cluster)).result == [4, 5]


class TestFailures:
    def test_an_exception_is_the_same_error_as_in_one_process(self, cluster: Any) -> None:
        errors = []
        for engine in ("serial", Dask(cluster)):
            with pytest.raises(NodeError) as caught:
                run(nodes.Fails, nodes.Collect, (1, 2), engine, analyzer_kwargs={"phase": "round 0"})
            errors.append(caught.value)
        here, there = errors
        assert str(there) == str(here)
        assert type(there.__cause__) is nodes.SiteError

    def test_where_nobody_is_left_to_send_the_run_ends(self, cluster: Any) -> None:
        with pytest.raises(NodeError, match=r"node_0 waits for a message.*node_1 waits for a message"):
            run(nodes.WaitsForNobody, nodes.Collect, (1, 2), Dask(cluster))

    @pytest.mark.parametrize("given", ["cluster", "address"])
    def test_a_killed_worker_ends_the_run_with_its_nodes_failure(self, cluster: Any, given: str) -> None:
        engine = Dask(cluster if given == "cluster" else cluster.scheduler_address)
        with pytest.raises(NodeError, match=r"Dask worker tcp://.*with node_1 at work there") as caught:
            run(
                nodes.Dies,
                nodes.FailsToAggregate,
                (1, 2),
                engine,
                simple_analysis=False,
                analyzer_kwargs={"phase": "round 2"},
                aggregator_kwargs={"phase": ""},
            )
        assert (caught.value.node_id, caught.value.round) == ("node_1", 2)
        assert caught.value.report is not None
        assert len(caught.value.report.rounds) == 2

    async def test_a_stuck_method_is_left_behind_and_named(self, cluster: Any, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        pid = 0
        tester = AsyncStarModelTester([str(pipe)], nodes.Stuck, nodes.Collect, "s3", engine=Dask(cluster))

        async def whole() -> None:
            await tester

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(whole)
            pid = int(await anyio.to_thread.run_sync(pipe.read_text))
            tasks.cancel_scope.cancel()
        assert tester.report.nodes[0].stuck
        assert any("did not return, and was left behind on Dask worker" in text for text in tester.report.warnings)
        os.kill(pid, 9)

    def test_what_is_no_cluster_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"a distributed\.Client, a cluster such as LocalCluster"):
            run(nodes.Mean, nodes.Average, [[1]], Dask(42))

    def test_where_no_scheduler_answers_the_address_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cluster_module, "CONNECT", 0.3)
        with pytest.raises(ConfigurationError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
            run(nodes.Mean, nodes.Average, [[1]], Dask("tcp://127.0.0.1:9"))

    def test_without_dask_the_call_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "distributed", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'star-actors\[dask\]'"):
            run(nodes.Mean, nodes.Average, [[1]], Dask("tcp://127.0.0.1:9"))


def wanderers(engine: Any, die: Any = None) -> Any:
    splits = [{"rows": np.full(5_000, float(i)), "count": []} for i in range(4)]
    return run(
        nodes.Wanders,
        nodes.GathersRounds,
        splits,
        engine,
        simple_analysis=False,
        seed=3,
        analyzer_kwargs={"die": die},
    ).report


@pytest.fixture(scope="module")
def undisturbed() -> Any:
    return wanderers("serial")


class TestRestart:
    def test_keeping_state_changes_nothing(self, cluster: Any, undisturbed: Any) -> None:
        report = wanderers(Dask(cluster, on_worker_loss="restart"))
        assert pickle.dumps(report.result) == pickle.dumps(undisturbed.result)

    @pytest.mark.parametrize(
        ("round", "point"),
        [
            (None, "made"),
            (0, "before sending"),
            (1, "after sending"),
            (2, "after receiving"),
            (3, "after all have received"),
        ],
    )
    def test_a_run_that_loses_a_worker_ends_with_the_bits_of_an_undisturbed_one(
        self, cluster: Any, undisturbed: Any, tmp_path: Path, round: int | None, point: str
    ) -> None:
        die = ("node_1", round, point, str(tmp_path / "died"))
        report = wanderers(Dask(cluster, on_worker_loss="restart"), die)
        assert (tmp_path / "died").exists()
        assert pickle.dumps(report.result) == pickle.dumps(undisturbed.result)
        assert [pickle.dumps(r.aggregate) for r in report.rounds] == [
            pickle.dumps(r.aggregate) for r in undisturbed.rounds
        ]
        for node in undisturbed.nodes:
            assert [log for log in report.logs if log.node_id == node.id] == [
                log for log in undisturbed.logs if log.node_id == node.id
            ]
        (told,) = (text for text in report.warnings if "went on from their state" in text)
        assert "node_1" in told
        if point == "after all have received":
            assert any("sent once more were dropped" in text for text in report.warnings)

    def test_where_the_only_worker_is_lost_the_run_waits_for_the_next(self, tmp_path: Path) -> None:
        with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as small:
            engine = Dask(small, on_worker_loss="restart")
            died = tmp_path / "died"
            report = run(nodes.DiesOnce, nodes.Collect, [str(died)], engine).report
            assert report.result != [int(died.read_text())]

    def test_state_that_cannot_be_pickled_is_named(self, cluster: Any) -> None:
        with pytest.raises(NodeError, match=r'self\.connection\["lock"\] is a _thread\.lock'):
            run(nodes.Unkeepable, nodes.Collect, (1, 2), Dask(cluster, on_worker_loss="restart"))
