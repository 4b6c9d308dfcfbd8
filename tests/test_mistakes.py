"""What people get wrong in their first analysis: each is said at once, or noticed in the report."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyses import Average, LocalMean, aggregator, analyzer, report_of

from star_actors import (
    AsyncStarModelTester,
    ConfigurationError,
    NodeError,
    StarAggregator,
    StarAnalyzer,
    StarModelTester,
    load_report,
)

SPLITS = [[1.5, 2.5], [3.5, 4.5]]


def refused(analyzer: Any = LocalMean, hub: Any = Average, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        AsyncStarModelTester(SPLITS, analyzer, hub, "s3", **options)
    return str(caught.value)


# The classes


def test_swapped_classes_are_told_so() -> None:
    assert "wrong way round" in refused(Average, LocalMean)


def test_a_base_of_the_same_name_is_told_from_ours() -> None:
    other = type("StarAggregator", (), {"__module__": "__main__"})
    text = refused(hub=type("Mine", (other,), {}))
    assert "another StarAggregator for a base, that of __main__" in text
    assert "from star_actors import StarAggregator" in text


def test_a_misspelt_method_is_named() -> None:
    mean = type("Mean", (StarAnalyzer,), {"analyse_method": lambda self, data, last: 1})
    assert "has no analysis_method (but it has analyse_method)" in refused(mean)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (lambda self, data: 1, "analysis_method(self, data), and analysis_method(self, data, aggregator_results)"),
        (lambda: 1, "analysis_method(), and analysis_method(self, data, aggregator_results)"),
    ],
)
def test_a_method_that_cannot_be_called_is_shown_with_what_is_wanted(method: Any, said: str) -> None:
    assert said in refused(analyzer(method))


@pytest.mark.parametrize(
    "method",
    [lambda self, *args: 1, lambda self, data, last, more=None: 1, staticmethod(lambda data, last: 1)],
    ids=["any", "more", "static"],
)
def test_other_signatures_that_can_be_called_are_fine(method: Any) -> None:
    assert report_of(SPLITS, analyzer(method)).result == 1


def test_a_table_is_told_how_to_split_it() -> None:
    frame = pytest.importorskip("pandas").DataFrame({"x": [1]})
    with pytest.raises(ConfigurationError, match=r"star_actors\.data\.split"):
        AsyncStarModelTester(frame, LocalMean, Average, "s3")


# What the methods return


def test_a_missing_return_of_an_analyzer_is_noticed_beside_the_failure_that_it_makes() -> None:
    with pytest.raises(NodeError) as caught:
        report_of(SPLITS, analyzer(lambda self, data, last: None))
    assert caught.value.report is not None
    assert "analysis_method returned None in round 0: is its return missing?" in " ".join(caught.value.report.warnings)


def test_a_missing_return_of_an_aggregator_is_noticed() -> None:
    (warning,) = noticed(aggregator(aggregation_method=lambda self, results: None))
    assert "aggregation_method returned None in round 0" in warning


def noticed(hub: Any = Average, analyzer: Any = LocalMean) -> list[str]:
    return [text for text in report_of(SPLITS, analyzer, hub).warnings if "FLAME hands over" not in text]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (float("nan"), "result"),
        ({"mean": [1.0, float("nan")]}, 'result["mean"][1]'),
        (np.array([1.0, np.nan]), "result"),
        (np.array([[1.0, 2.0], [3.0, np.nan]]).T, "result"),
        (np.float64("nan"), "result"),
    ],
)
def test_the_first_node_that_sends_nan_is_named(value: Any, where: str) -> None:
    sends = analyzer(lambda self, data, last: value if self.id == "node_1" else 1.0)
    (warning,) = noticed(aggregator(aggregation_method=lambda self, results: 1.0), sends)
    assert warning.startswith("node_1: ")
    assert f"returned NaN in round 0 ({where})" in warning


def test_nan_is_not_spoken_of_where_noise_protects_it() -> None:
    sends = analyzer(lambda self, data, last: {"a": float("nan")})
    hub = aggregator(aggregation_method=lambda self, results: 1.0)
    assert "NaN" not in str(report_of(SPLITS, sends, hub, epsilon=1.0, sensitivity=1.0))


def test_a_convergence_test_that_answers_with_an_array_says_what_is_wanted() -> None:
    hub = aggregator(
        aggregation_method=lambda self, results: np.zeros(2), has_converged=lambda self, result, last: result == result
    )
    with pytest.raises(NodeError, match=r"with type ndarray.*True or False is wanted"):
        report_of(SPLITS, LocalMean, hub, simple_analysis=False)


# What is seen


def test_what_was_found_is_pointed_to(capsys: pytest.CaptureFixture[str]) -> None:
    StarModelTester(SPLITS, LocalMean, aggregator(aggregation_method=lambda self, results: None), "s3")
    assert capsys.readouterr().err == "1 warning: see print(tester.report)\n"


def test_nothing_is_said_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tester = StarModelTester(SPLITS, LocalMean, Average, "s3")
    assert len(tester.report.warnings) == 1  # of the call itself: the data are no files
    assert capsys.readouterr().err == ""


class Fails(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        raise KeyError(f"agee of {data}")


def test_a_saved_report_says_what_ended_the_run_and_quotes_no_data(tmp_path: Path) -> None:
    with pytest.raises(NodeError) as caught:
        report_of(SPLITS, Fails)
    report = caught.value.report
    assert report is not None
    assert report.failure is not None
    assert "node_0 (default) failed in round 0, in Fails.analysis_method: KeyError at " in report.failure
    assert "test_mistakes.py:" in report.failure
    path = report.save(tmp_path / "run.html")
    assert load_report(path.with_suffix(".json")).failure == report.failure
    for text in (path.read_text(), str(report), report._repr_html_()):
        assert "Fails.analysis_method: KeyError" in "".join(text.split("\n"))
        assert "agee" not in text


def test_a_traceback_begins_in_the_users_own_code() -> None:
    with pytest.raises(NodeError) as caught:
        StarModelTester(SPLITS, Fails, Average, "s3")
    cause = caught.value.__cause__
    assert cause is not None and cause.__traceback__ is not None  # noqa: PT018
    assert cause.__traceback__.tb_frame.f_code.co_name == "analysis_method"


def test_testers_say_what_they_are() -> None:
    assert repr(StarModelTester(SPLITS, LocalMean, Average, "s3")) == (
        "<StarModelTester: Done in one round; see its result and report>"
    )


def test_a_forgotten_await_is_seen() -> None:
    tester = AsyncStarModelTester(SPLITS, LocalMean, Average, "s3")
    assert repr(tester) == "<AsyncStarModelTester: not started: await it>"
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        del tester


async def test_an_awaited_tester_says_nothing_of_that(recwarn: pytest.WarningsRecorder) -> None:
    await AsyncStarModelTester(SPLITS, LocalMean, Average, "s3")
    gc.collect()
    assert not recwarn.list


def test_a_base_class_is_no_analysis() -> None:
    assert "has no analysis_method" in refused(StarAnalyzer)
    assert "has no aggregation_method" in refused(hub=StarAggregator)


def test_a_split_that_nothing_analyses_is_noticed() -> None:
    report = report_of([*SPLITS, [9.0]], LocalMean, Average, node_roles=["default", "default", "aggregator"])
    assert any(text.startswith("node_2 is the aggregator and has a data split, which") for text in report.warnings)


def test_a_split_that_the_aggregator_asks_for_is_none() -> None:
    hub = aggregator(aggregation_method=lambda self, results: sum(results) + sum(self.flame.get_s3_data()))
    report = report_of([*SPLITS, [9.0]], LocalMean, hub, node_roles=["default", "default", "aggregator"])
    assert not any("is the aggregator and has a data split" in text for text in report.warnings)
