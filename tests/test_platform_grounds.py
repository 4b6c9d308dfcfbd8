"""One script, run on each ground that there is: a FLAME of one process, and separate processes with FLAME's own SDK.

The second ground needs `flamesdk` to be importable, and FLAME_HARNESS to name the folder of the harness that starts
one process for each node (`run_harness.py`). Where either is missing, its tests are skipped and say so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_flamesdk import Federation

import star_actors
from star_actors import StarAggregator, StarAnalyzer, StarModelTester

HARNESS = os.environ.get("FLAME_HARNESS", "")

needs_harness = pytest.mark.skipif(
    not HARNESS or importlib.util.find_spec("flamesdk") is None,
    reason="needs flamesdk to be importable, and FLAME_HARNESS to name the folder with run_harness.py",
)


@dataclass
class Ending:
    """How a star ended: what was released, and each node's last status, by position; analyzers first."""

    released: list[str] = field(default_factory=list)
    local_dp: list[dict[str, float] | None] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)


Ground = Callable[..., Ending]


@pytest.fixture(params=["one process", pytest.param("harness", marks=needs_harness)])
def ground(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    """Runs the source of a script at every node of a star: `ground(source, nodes=2, strict=False)`."""

    def run(source: str, nodes: int = 2, strict: bool = False) -> Ending:
        script = tmp_path / "analysis.py"
        script.write_text(textwrap.dedent(source), encoding="utf-8")
        if request.param == "harness":
            return on_harness(script, nodes, ["--strict-sources"] if strict else [])
        monkeypatch.setattr("star_actors.platform.stay.Stop.wait", lambda self: None)
        return in_one_process(script, nodes, strict)

    return run


def in_one_process(script: Path, nodes: int, strict: bool) -> Ending:
    with Federation(analyzers=nodes) as hub, hub.installed():
        hub.strict_sources = strict
        data = [f"value\n{i + 0.1}\n{i + 1.7}\n{2.9 * i}\n".encode() for i in range(nodes)]
        for node_id, table in zip(hub.analyzers, data, strict=True):
            hub.s3(node_id, {"data.csv": table})
            hub.fhir(node_id, {"Observation": {"resourceType": "Bundle", "entry": []}})

        def node(node_id: str) -> None:
            with hub.on(node_id):
                try:
                    runpy.run_path(str(script), run_name="__main__")
                except star_actors.StarError as error:
                    ended.append(error)

        ended: list[BaseException] = []
        threads = [threading.Thread(target=node, args=(node_id,), daemon=True) for node_id in hub.roles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return Ending(
            released=[str(release.result) for release in hub.released],
            local_dp=[release.local_dp for release in hub.released],
            statuses=[hub.sdks[node_id]._flame_logger.runstatus for node_id in hub.roles],
            data=data,
            logs=[text for _, _, text in hub.logs],
        )


def on_harness(script: Path, nodes: int, options: list[str]) -> Ending:
    run_dir = script.parent / "run"
    package = Path(star_actors.__file__).parent
    spec = importlib.util.find_spec("flamesdk")
    assert spec is not None
    assert spec.origin is not None
    path = [package.parent, package / "_compat", Path(spec.origin).parent.parent]
    command = [sys.executable, "run_harness.py", "--analysis", str(script), "--nodes", str(nodes)]
    command += ["--pythonpath", os.pathsep.join(map(str, path)), "--run-dir", str(run_dir)]
    command += ["--timeout", "80", "--fail-wait", "6", "--linger", "3", *options]
    subprocess.run(command, cwd=HARNESS, check=False, capture_output=True, timeout=110)
    report = json.loads((run_dir / "report.json").read_text())
    return Ending(
        released=[final["body"] for final in report["finals"]],
        local_dp=[final["local_dp"] for final in report["finals"]],
        statuses=[
            next((s for _, s in reversed(report["health"][node]) if s in ("executed", "failed")), "")
            for node in report["names"]
        ],
        data=[(run_dir / f"data{i}" / "s3" / "data.csv").read_bytes() for i in range(nodes)],
        logs=[log["log"] for _, _, log in report["logs"]],
        report=report,
    )


MEAN = """
    from star_actors import StarAggregator, StarAnalyzer
    from star_actors.platform import StarLocalDPModel, StarModel

    class Mean(StarAnalyzer):
        def analysis_method(self, data, aggregator_results):
            table = next(source["data.csv"] for source in data if "data.csv" in source)
            numbers = [float(line) for line in table.decode().split()[1:]]
            mean = 0.0 if aggregator_results is None else aggregator_results
            self.flame.flame_log(f"in round {self.num_iterations} the mean is {mean}")
            return sum(x - mean for x in numbers), len(numbers)

    class Pooled(StarAggregator):
        def __init__(self, flame):
            super().__init__(flame)
            self.mean = 0.0

        def aggregation_method(self, analysis_results):
            self.mean += 0.5 * sum(s for s, _ in analysis_results) / sum(n for _, n in analysis_results)
            return self.mean

        def has_converged(self, result, last_result):
            return last_result is not None and abs(result - last_result) < 0.2

    arguments = dict(analyzer=Mean, aggregator=Pooled, data_type="s3", query="data.csv")
"""
ITERATIVE = MEAN + "\n    if __name__ == '__main__':\n        StarModel(**arguments, simple_analysis=False)\n"


def in_tester(source: str, data: list[bytes]) -> StarModelTester:
    """The same classes in the tester, on the same data."""
    names: dict[str, Any] = {"__name__": "analysis"}
    exec(textwrap.dedent(source), names)
    splits = [[{"data.csv": table}] for table in data]
    return StarModelTester(splits, names["Mean"], names["Pooled"], "s3", "data.csv", simple_analysis=False)


def test_a_star_gives_the_testers_result_to_the_last_bit(ground: Ground) -> None:
    ending = ground(ITERATIVE, nodes=3)
    assert ending.released == [str(in_tester(ITERATIVE, ending.data).result)]


def test_a_star_logs_what_the_tester_logs_round_for_round(ground: Ground) -> None:
    ending = ground(ITERATIVE)
    logged = sorted(line for line in ending.logs if "the mean is" in line)
    assert logged == sorted(log.message for log in in_tester(ITERATIVE, ending.data).report.logs)


def test_every_node_of_a_star_is_executed_at_its_end(ground: Ground) -> None:
    assert ground(ITERATIVE).statuses == ["executed"] * 3


def test_every_node_of_a_one_round_star_is_executed_at_its_end(ground: Ground) -> None:
    ending = ground(MEAN + "\n    StarModel(**arguments)\n")
    assert ending.statuses == ["executed"] * 3
    assert len(ending.released) == 1


def test_noise_is_asked_of_the_result_service_whatever_has_converged_answers(ground: Ground) -> None:
    ending = ground(MEAN + "\n    StarLocalDPModel(**arguments, epsilon=1.0, sensitivity=2.0)\n")
    assert ending.local_dp == [{"epsilon": 1.0, "sensitivity": 2.0}]


def test_a_source_of_the_wrong_kind_stops_no_node(ground: Ground) -> None:
    assert ground(ITERATIVE, strict=True).statuses == ["executed"] * 3


def test_a_raising_analyzer_fails_every_node_and_releases_nothing(ground: Ground) -> None:
    ending = ground(
        MEAN
        + """
    class Raises(Mean):
        def analysis_method(self, data, aggregator_results):
            analyzers = [p["nodeId"] for p in self.flame.get_participants() if p["nodeType"] == "default"]
            if self.num_iterations == 1 and self.id < min(analyzers):
                raise RuntimeError("4711 is a patient")
            return super().analysis_method(data, aggregator_results)

    StarModel(**{**arguments, "analyzer": Raises}, simple_analysis=False)
"""
    )
    assert ending.statuses == ["failed"] * 3
    assert ending.released == []
    assert not [line for line in ending.logs if "4711" in line]


def test_analyzers_that_exchange_shares_several_times_a_round_come_through(ground: Ground) -> None:
    ending = ground(
        """
        from star_actors import StarAggregator, StarAnalyzer
        from star_actors.platform import StarModel

        class Peers(StarAnalyzer):
            def analysis_method(self, data, aggregator_results):
                others = [p["nodeId"] for p in self.flame.get_participants() if p["nodeType"] == "default"]
                held = 0
                for turn in range(2):
                    self.flame.send_intermediate_data(others, turn + 1, message_category=f"share-{turn}")
                    got = self.flame.await_intermediate_data(others, message_category=f"share-{turn}")
                    held += sum(got.values())
                return held

        class Total(StarAggregator):
            def aggregation_method(self, analysis_results):
                return sum(analysis_results)

            def has_converged(self, result, last_result):
                return self.num_iterations == 1

        StarModel(Peers, Total, "s3", simple_analysis=False)
        """,
        nodes=3,
    )
    assert ending.released == ["18"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Ending:
    """An iterative star that has run on the harness."""
    script = tmp_path_factory.mktemp("harness") / "analysis.py"
    script.write_text(textwrap.dedent(ITERATIVE), encoding="utf-8")
    return on_harness(script, 2, ["--linger", "5"])


@needs_harness
def test_a_round_takes_at_most_a_fifth_of_a_second(finished: Ending) -> None:
    assert min(finished.report["per_round"]) <= 0.2


@needs_harness
def test_a_finished_node_uses_next_to_no_cpu(finished: Ending) -> None:
    for seconds in finished.report["cpu"].values():
        (begin, used_then, _), (end, used_now, _) = seconds[-8], seconds[-2]
        assert used_now - used_then <= 0.02 * (end - begin) + 0.01  # the clock counts in hundredths


@needs_harness
def test_every_process_ends_when_it_is_told_to(finished: Ending) -> None:
    stopped = [what for _, kind, what in finished.report["events"] if kind == "stopped"]
    assert [(what["rc"], "needed_sigkill" in what) for what in stopped] == [(0, False)] * 3


class Rounded(StarAnalyzer):
    """For the parity of awkward values: what pickling would change would show."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        scale = 1.0 if aggregator_results is None else aggregator_results["scale"]
        return {"mean": sum(data[0]["x"]) / 7.0 * scale, "pairs": (self.num_iterations, [0.1] * 3)}


class Merged(StarAggregator):
    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return {"scale": sum(r["mean"] for r in analysis_results) / 3.0, "last": analysis_results[-1]["pairs"]}

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return last_result is not None and abs(result["scale"] - last_result["scale"]) < 1e-6


async def test_structured_results_of_tester_and_platform_are_equal() -> None:
    from star_actors import AsyncStarModelTester
    from star_actors.platform import AsyncStarModel, NodeRun

    tables = [bytes([3, 1, 2]), bytes([1, 1]), bytes([2])]
    arguments: dict[str, Any] = {"simple_analysis": False, "output_type": "pickle"}
    report = await AsyncStarModelTester([[{"x": t}] for t in tables], Rounded, Merged, "s3", **arguments)
    with Federation(analyzers=3) as hub, hub.installed():
        for node_id, table in zip(hub.analyzers, tables, strict=True):
            hub.s3(node_id, {"x": table})
        ends = await hub.star(lambda: AsyncStarModel(Rounded, Merged, "s3", **arguments))
    assert hub.released[0].result == report.result
    assert {end.rounds for end in ends.values() if isinstance(end, NodeRun)} == {len(report.rounds)}
