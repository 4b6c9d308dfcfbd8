"""What a run notices that would not, or not so, run on FLAME."""

from __future__ import annotations

import functools
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from analyses import Average, LocalMean, aggregator, analyzer, report_of

from star_actors import Checks, Privacy, Processes, Report, StarAnalyzer
from star_actors.errors import FindingsError
from star_actors.findings import Finding, FindingKind

SPLITS = [[1.0, 2.0, 3.5, 4.0], [5.0, 6.0, 7.5, 8.0], [9.0, 10.0, 11.5]]
SHAPED = [[{"a.bin": b"x"}], [{"b.bin": b"y"}]]

visits: list[str] = []
limits = {"low": 0, "high": 9}
single: list[str] = []


class Counting(LocalMean):
    """Keeps state where every instance sees it."""

    total = 0
    names: list[str] = []

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        Counting.total += 1
        self.names.append(self.id)
        return super().analysis_method(data, aggregator_results)


def remember(node_id: str) -> None:
    visits.append(node_id)


class Visiting(LocalMean):
    """Reaches a global by way of a function, and reads another."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        remember(self.id)
        if self.id == "node_1":
            single.append(self.id)
        return max(limits["low"], super().analysis_method(data, aggregator_results))


@functools.lru_cache
def slow_square(number: float) -> float:
    return number * number


class Caching(LocalMean):
    """Keeps nothing but what a function caches for itself, and on the instance."""

    FACTOR = 2.0
    WEIGHTS = (1, 2, 3)

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        self.kept = data
        return slow_square(sum(data)) * self.FACTOR


def found(report: Report, kind: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind == kind]


def kinds(report: Report) -> set[str]:
    return {finding.kind for finding in report.findings}


def test_an_ordinary_analysis_has_no_findings() -> None:
    assert report_of(SPLITS, simple_analysis=False).findings == []


def test_every_kind_has_its_section_in_the_docs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "findings.md").read_text()
    assert [kind for kind in get_args(FindingKind) if f"## {kind}\n" not in page] == []


def test_a_finding_names_its_page() -> None:
    assert Finding("log-error", "m", "a").page == "docs/findings.md#log-error"


class TestSharedState:
    def test_class_attributes_that_two_nodes_change_are_found(self) -> None:
        paths = {finding.path for finding in found(report_of(SPLITS, Counting), "shared-state")}
        assert paths == {"Counting.total", "Counting.names"}

    def test_it_is_told_once_for_each_name_and_says_which_nodes(self) -> None:
        (finding,) = [f for f in found(report_of(SPLITS, Counting), "shared-state") if f.path == "Counting.total"]
        assert "node_0 and by node_1" in finding.message

    def test_a_global_reached_by_a_function_is_found_and_one_that_one_node_changes_is_not(self) -> None:
        paths = {finding.path for finding in found(report_of(SPLITS, Visiting), "shared-state")}
        assert paths == {f"{__name__}.visits"}

    def test_constants_caches_and_instance_attributes_are_not(self) -> None:
        assert found(report_of(SPLITS, Caching, simple_analysis=False), "shared-state") == []

    def test_setting_it_to_the_same_value_at_every_node_is_not(self) -> None:
        def analyze(self: Any, data: Any, last: Any) -> float:
            type(self).settings = {"depth": 3}
            return 1.5

        assert found(report_of(SPLITS, analyzer(analyze)), "shared-state") == []


class TestRandom:
    @pytest.mark.parametrize("draw", [random.random, np.random.random_sample], ids=["random", "numpy"])
    def test_drawing_from_a_global_generator_is_found(self, draw: Any) -> None:
        findings = found(report_of(SPLITS, analyzer(lambda self, data, last: draw())), "unseeded-random")
        assert [finding.node_id for finding in findings] == ["node_0", "node_1", "node_2"]

    def test_drawing_in_the_aggregator_is_found(self) -> None:
        hub = aggregator(aggregation_method=lambda self, results: random.random())
        assert [finding.node_id for finding in found(report_of(SPLITS, LocalMean, hub), "unseeded-random")] == [
            "node_3"
        ]

    def test_a_run_with_a_seed_is_not(self) -> None:
        report = report_of(SPLITS, analyzer(lambda self, data, last: random.random()), seed=3)
        assert found(report, "unseeded-random") == []

    def test_a_generator_of_its_own_is_not(self) -> None:
        report = report_of(SPLITS, analyzer(lambda self, data, last: random.Random(2).random()))
        assert found(report, "unseeded-random") == []

    def test_code_that_seeds_for_itself_is_not(self) -> None:
        def analyze(self: Any, data: Any, last: Any) -> float:
            random.seed(4)
            return random.random()

        assert found(report_of(SPLITS, analyzer(analyze)), "unseeded-random") == []

    def test_an_attribute_named_seed_does_not_hide_it(self) -> None:
        def analyze(self: Any, data: Any, last: Any) -> float:
            self.seed = 4
            return random.random() * float(self.seed)

        assert len(found(report_of(SPLITS, analyzer(analyze)), "unseeded-random")) == 3


class TestOrder:
    def report(self, aggregate: Any, **options: Any) -> Report:
        hub = aggregator(aggregation_method=aggregate)
        return report_of(SPLITS, LocalMean, hub, checks=Checks(permute=True), **options)

    def test_an_aggregate_that_depends_on_it_is_found_with_the_amount(self) -> None:
        (finding,) = found(self.report(lambda self, results: results[0] - results[-1]), "order-dependent")
        assert "change by up to 2 of their size" in finding.message

    def test_the_last_bits_of_a_sum_are_not(self) -> None:
        report = self.report(lambda self, results: sum([0.1, 0.2, 0.3][i] * 0 + r / 3.1 for i, r in enumerate(results)))
        assert found(report, "order-dependent") == []

    def test_the_aggregator_itself_is_left_as_it_was(self) -> None:
        def aggregate(self: Any, results: Any) -> Any:
            self.calls = getattr(self, "calls", 0) + 1
            return self.calls

        hub = aggregator(aggregation_method=aggregate, has_converged=lambda self, result, last: result == 5)
        report = report_of(SPLITS, LocalMean, hub, simple_analysis=False, checks=Checks(permute=True))
        assert [r.aggregate for r in report.rounds] == [1, 2, 3, 4, 5]

    def test_its_logs_are_not_said_twice(self) -> None:
        def aggregate(self: Any, results: Any) -> float:
            self.flame.flame_log("adding")
            return float(sum(results))

        assert [log.message for log in self.report(aggregate).logs] == ["adding"]

    def test_the_numbers_drawn_after_it_are_the_same(self) -> None:
        def aggregate(self: Any, results: Any) -> Any:
            return random.random() + 0 * sum(results)

        assert (
            self.report(aggregate, seed=1).result
            == report_of(SPLITS, LocalMean, aggregator(aggregation_method=aggregate), seed=1).result
        )

    def test_an_aggregator_that_cannot_be_copied_is_a_warning(self) -> None:
        def aggregate(self: Any, results: Any) -> float:
            return float(sum(results))

        def init(self: Any, flame: Any) -> None:
            Average.__init__(self, flame)
            self.lines = (line for line in ["one"])

        hub = aggregator(aggregation_method=aggregate, __init__=init)
        report = report_of(SPLITS, LocalMean, hub, checks=Checks(permute=True))
        assert [w for w in report.warnings if "permute" in w and "TypeError" in w]

    def test_nothing_is_permuted_unasked(self) -> None:
        hub = aggregator(aggregation_method=lambda self, results: results[0] - results[-1])
        assert found(report_of(SPLITS, LocalMean, hub), "order-dependent") == []

    def test_arrays_in_a_dict_are_compared(self) -> None:
        report = self.report(lambda self, results: {"first": np.array(results[:1]), "sum": float(sum(results))})
        assert len(found(report, "order-dependent")) == 1


class TestPrivacy:
    def test_a_result_that_flame_cannot_noise_is_found(self) -> None:
        hub = aggregator(aggregation_method=lambda self, results: {"mean": sum(results) / 3, "sum": sum(results)})
        (finding,) = found(report_of(SPLITS, LocalMean, hub, epsilon=1.0, sensitivity=1.0), "unnoisable-result")
        assert (finding.node_id, finding.round, finding.path) == ("node_3", 0, "result")

    def test_a_single_number_is_not(self) -> None:
        assert found(report_of(SPLITS, epsilon=1.0, sensitivity=1.0), "unnoisable-result") == []

    def test_the_element_is_named_where_results_are_several(self) -> None:
        hub = aggregator(aggregation_method=lambda self, results: [1.5, np.array([2.5])])
        report = report_of(SPLITS, LocalMean, hub, epsilon=1.0, sensitivity=1.0, multiple_results=True)
        assert [finding.path for finding in found(report, "unnoisable-result")] == ["result[1]"]

    def test_without_privacy_it_is_not(self) -> None:
        hub = aggregator(aggregation_method=lambda self, results: {"mean": sum(results) / 3})
        assert found(report_of(SPLITS, LocalMean, hub), "unnoisable-result") == []


def test_an_async_method_is_found() -> None:
    async def analyze(self: Any, data: Any, last: Any) -> float:
        return 1.5

    (finding,) = found(report_of(SPLITS, analyzer(analyze)), "async-method")
    assert finding.path == "Probe.analysis_method"


@pytest.mark.parametrize("engine", ["auto", "processes"])
def test_a_class_of_the_script_is_found_with_its_path(tmp_path: Path, engine: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from star_actors import StarAggregator, StarAnalyzer, StarModelTester\n"
        "class Model:\n"
        "    def __init__(self): self.weight = 1.5\n"
        "class Mine(StarAnalyzer):\n"
        "    def analysis_method(self, data, last): return {'model': Model()}\n"
        "class Hub(StarAggregator):\n"
        "    def aggregation_method(self, results): return float(len(results))\n"
        "if __name__ == '__main__':\n"
        f"    report = StarModelTester([1.0, 2.0], Mine, Hub, 's3', engine={engine!r}).report\n"
        "    print([(f.node_id, f.path) for f in report.findings if f.kind == 'class-in-script'])\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    told = run.stdout.splitlines()[-1]
    assert sorted(eval(told)) == [("node_0", 'contribution["model"]'), ("node_1", 'contribution["model"]')]


def test_a_class_that_can_be_imported_is_not() -> None:
    report = report_of(SPLITS, analyzer(lambda self, data, last: np.float64(1.5)))
    assert "class-in-script" not in kinds(report)


class TestShape:
    def test_data_unlike_flames_is_one_warning(self) -> None:
        assert len([w for w in report_of(SPLITS).warnings if "differ from what FLAME hands over" in w]) == 1

    def test_data_like_flames_is_none(self) -> None:
        assert report_of(SHAPED, analyzer(lambda self, data, last: 1.5)).warnings == []


class TestStrict:
    def test_a_finding_ends_the_run_in_an_error_with_the_report(self) -> None:
        with pytest.raises(FindingsError, match="shared-state") as caught:
            report_of(SPLITS, Counting, checks=Checks(strict=True))
        report = caught.value.report
        assert report is not None
        assert report.stop_reason == "failed"
        assert len(found(report, "shared-state")) == 2

    def test_nothing_is_released(self, tmp_path: Path) -> None:
        with pytest.raises(FindingsError):
            report_of(SPLITS, Counting, checks=Checks(strict=True), filename=tmp_path / "result.txt")
        assert list(tmp_path.iterdir()) == []

    def test_a_run_without_findings_is_as_it_was(self) -> None:
        assert report_of(SPLITS, checks=Checks(strict=True)).stop_reason == "single round"

    def test_the_error_pickles(self) -> None:
        with pytest.raises(FindingsError) as caught:
            report_of(SPLITS, Counting, checks=Checks(strict=True))
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again)) == (FindingsError, str(caught.value))


def test_the_first_rounds_only_are_looked_at() -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        return {"n": 2} if self.num_iterations == 3 else {"n": 1000}

    hub = aggregator(aggregation_method=lambda self, results: float(len(results)))
    assert report_of(SPLITS, analyzer(analyze), hub, simple_analysis=False).findings == []


def test_nodes_in_worker_processes_are_looked_at_there() -> None:
    report = report_of(SPLITS, Drawing, engine=Processes(workers=2))
    assert {finding.node_id for finding in found(report, "unseeded-random")} == {"node_0", "node_1", "node_2"}


class Drawing(StarAnalyzer):
    """Draws from the global generator, where the worker process has it."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return random.random()


def test_privacy_keeps_the_amount_of_a_change_out() -> None:
    hub = aggregator(aggregation_method=lambda self, results: results[0] - results[-1])
    report = report_of(
        SPLITS, LocalMean, hub, privacy=Privacy(epsilon=1.0, sensitivity=1.0), checks=Checks(permute=True)
    )
    (finding,) = found(report, "order-dependent")
    assert finding.message.endswith("reversed, its numbers change")
