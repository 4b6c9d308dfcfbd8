"""Privacy in a run: where the noise is added, what it costs, and that nothing exact gets past it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyses import Average, aggregator, analyzer, report_of

from star_actors import NodeError, Privacy, PrivacyError, StarModelTester, Withheld
from star_actors.config import configure
from star_actors.run import Run

SUM = aggregator(
    aggregation_method=lambda self, results: sum(results), has_converged=lambda self, r, last: self.num_iterations == 2
)
OWN = analyzer(lambda self, data, last: data)
SECRET = 123456.78125
SPLITS = [100000.0, 23456.78125]


def private(**options: Any) -> Privacy:
    return Privacy(**{"epsilon": 1.0, "sensitivity": 1.0, **options})


@pytest.mark.parametrize(("noise_at", "releases"), [("final", 1), ("broadcast", 3), ("analyzer", 6)])
def test_each_placement_charges_what_it_releases(noise_at: Any, releases: int) -> None:
    report = report_of(SPLITS, OWN, SUM, simple_analysis=False, privacy=private(noise_at=noise_at))
    assert len(report.privacy.releases) == releases
    assert report.privacy.epsilon == (1.0 if noise_at == "final" else 3.0)
    assert report.result != SECRET
    assert abs(report.result - SECRET) < 100  # twenty draws of scale 1 would not reach it
    if noise_at == "final":
        assert [type(round.aggregate) for round in report.rounds] == [Withheld] * 3
    else:
        assert report.result == report.rounds[-1].aggregate


def test_a_spent_budget_ends_the_run_with_the_last_result_that_was_paid_for() -> None:
    with pytest.raises(PrivacyError, match="budget") as caught:
        report_of(SPLITS, OWN, SUM, simple_analysis=False, privacy=private(noise_at="broadcast", budget=2))
    report = caught.value.report
    assert report is not None
    assert report.stop_reason == "budget"
    assert report.result == report.rounds[1].aggregate


def test_clipping_bounds_what_a_node_sends() -> None:
    report = report_of([1e9, 1.0], OWN, SUM, privacy=private(clip=10.0, keep_exact=True))
    assert report.rounds[0].aggregate == pytest.approx(11.0)


def test_a_rehearsal_keeps_the_exact_aggregate_and_says_so() -> None:
    report = report_of(SPLITS, OWN, SUM, privacy=private(keep_exact=True))
    assert report.rounds[0].aggregate == SECRET
    assert report.result != SECRET
    assert report.privacy.rehearsal


@pytest.mark.parametrize(
    "result", [True, None, "text", float("nan"), float("inf"), {1: 2.0}, [1.0, "x"], np.array(["x"]), object()]
)
def test_what_cannot_be_noised_is_not_released(result: Any, tmp_path: Path) -> None:
    hub = aggregator(aggregation_method=lambda self, results: result)
    with pytest.raises(PrivacyError) as caught:
        report_of(SPLITS, OWN, hub, privacy=private(), result_filepath=tmp_path / "out")
    assert caught.value.report is not None
    assert caught.value.report.result is None
    assert caught.value.report.outputs == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("phase", ["aggregation_method", "has_converged"])
def test_a_users_exception_keeps_its_type_and_line_but_not_its_text(phase: str) -> None:
    def fail(self: Any, value: Any, *last: Any) -> Any:
        raise ValueError(f"exactly {sum(value) if isinstance(value, list) else value}")

    with pytest.raises(NodeError) as caught:
        report_of(SPLITS, OWN, type("Hub", (SUM,), {phase: fail}), simple_analysis=False, privacy=private())
    error = caught.value
    assert isinstance(error.__cause__, ValueError)
    assert "123456" not in f"{error}{error.__cause__}{pickle.dumps(error)!r}{error.report}"
    assert f"{__file__}:" in str(error)


@pytest.mark.parametrize("options", [{}, {"simple_analysis": False}, {"output_type": "pickle"}])
def test_the_exact_result_appears_nowhere_that_is_written(
    options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out"
    tester = StarModelTester(SPLITS, OWN, SUM, "s3", epsilon=1.0, sensitivity=1.0, result_filepath=path, **options)
    tester.report.save(tmp_path / "run.html")
    told = capsys.readouterr().out + str(tester.report) + repr(tester.report) + tester.report.to_json().decode()
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir()) + pickle.dumps(tester.report)
    assert "123456.78125" not in told
    assert b"123456.78125" not in written
    assert np.float64(SECRET).tobytes() not in written
    assert np.float64(SECRET).tobytes()[::-1] not in written


def test_an_early_submission_is_noised_and_charged_too() -> None:
    def aggregate(self: Any, results: Any) -> Any:
        self.flame.submit_final_result(sum(results))
        return sum(results)

    report = report_of(SPLITS, OWN, aggregator(aggregation_method=aggregate), privacy=private())
    assert len(report.privacy.releases) == 2
    assert all(output.value != str(SECRET) for output in report.outputs)


def test_many_numbers_tell_how_far_their_noise_is() -> None:
    seen: list[tuple[int, int]] = []
    hub = aggregator(aggregation_method=lambda self, results: np.zeros(5000))
    run = Run(configure([1.0], OWN, hub, "s3", epsilon=1.0, sensitivity=1.0), lambda event: None, stepwise=False)
    assert run.record.noised is None
    run.run_here()
    seen.append(run.record.noised or (0, 0))
    assert run.error is None
    assert seen == [(5000, 5000)]


def test_multiple_results_are_one_draw_and_one_epsilon_each() -> None:
    hub = aggregator(aggregation_method=lambda self, results: [1.0, 2.0, 3.0])
    report = report_of([1.0], OWN, hub, privacy=private(), multiple_results=True)
    assert len(report.outputs) == 3
    assert report.privacy.epsilon == 3.0


def test_the_noise_is_never_seeded() -> None:
    first, second = (report_of([1.0], OWN, Average, privacy=private(), seed=1).result for _ in range(2))
    assert first != second
