"""A private run shows no exact value by the back door: texts, frames, contexts, tasks, releases that cost less."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from analyses import aggregator, analyzer, report_of

from star_actors import Checks, ConfigurationError, NodeError, NotConvergedError, Privacy, PrivacyError, StarError

SPLITS = [37.33, 34.875]
EXACT = ["111.99", "104.625", "216.615"]
"""What the analyzers send, and the sum."""
OWN = analyzer(lambda self, data, last: 3 * data)


def private(**options: Any) -> Privacy:
    return Privacy(**{"epsilon": 1.0, "sensitivity": 1.0, **options})


def adds(then: Any, **methods: Any) -> Any:
    """An aggregator that adds up, and does something with the sum."""
    return aggregator(aggregation_method=lambda self, results: then(self, sum(results)), **methods)


def fails(error: BaseException) -> Any:
    raise error


def chain(error: BaseException) -> Iterator[BaseException]:
    yield error
    for other in (error.__cause__, error.__context__):
        if other is not None:
            yield from chain(other)


def shown(error: BaseException) -> str:
    """All that an error tells, to a reader and to a debugger: texts, pickle, and the locals of frames that are ours."""
    told = repr(pickle.dumps(error))
    for one in chain(error):
        told += "".join(traceback.format_exception(one))
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                told += repr(list(frame.f_locals.values()))
    return told


def told_by(error: type[StarError], analyzer: Any, hub: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        report_of(SPLITS, analyzer, hub, **{"privacy": private(), **options})
    assert caught.value.report is not None
    return shown(caught.value)


@pytest.mark.parametrize("engine", ["auto", "serial", "threads", "processes"])
@pytest.mark.parametrize(
    ("error", "hub"),
    [
        (NodeError, adds(lambda self, total: fails(ValueError(f"bad {total}")))),
        (NodeError, adds(lambda self, total: fails(PrivacyError(f"bad {total}")))),
        (NodeError, adds(lambda self, total: fails(ConfigurationError(f"bad {total}")))),
        (PrivacyError, adds(lambda self, total: {"mean": total, "unit": "kg"})),
    ],
    ids=["user", "theirs as ours", "another of ours", "ours"],
)
def test_an_error_tells_nothing_exact_in_texts_and_frames(error: Any, hub: Any, engine: str) -> None:
    assert not [value for value in EXACT if value in told_by(error, OWN, hub, engine=engine)]


def test_a_run_that_does_not_converge_tells_nothing_exact() -> None:
    hub = adds(lambda self, total: total, has_converged=lambda self, result, last: False)
    told = told_by(NotConvergedError, OWN, hub, simple_analysis=False, max_iterations=2)
    assert not [value for value in EXACT if value in told]


@pytest.mark.parametrize("noise_at", ["final", "broadcast", "analyzer"])
def test_an_analyzers_error_tells_nothing_exact(noise_at: Any) -> None:
    bad = analyzer(lambda self, data, last: fails(ValueError(f"bad {3 * data}")))
    told = told_by(NodeError, bad, adds(lambda self, total: total), privacy=private(noise_at=noise_at))
    assert not [value for value in EXACT if value in told]
    assert "ValueError" in told


def test_what_led_to_a_refusal_is_not_told() -> None:
    def submit(self: Any, total: float) -> Any:
        try:
            float(f"{total} kg")
        except ValueError:
            self.flame.submit_final_result({"x": "n/a"})

    assert not [value for value in EXACT if value in told_by(PrivacyError, OWN, adds(submit))]


class Unpicklable:
    def __init__(self, value: float) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        raise TypeError(f"no pickle of {self.value}")


def test_an_aggregate_that_cannot_be_copied_is_told_by_its_type() -> None:
    hub = adds(lambda self, total: Unpicklable(total), has_converged=lambda self, result, last: False)
    told = told_by(NodeError, OWN, hub, simple_analysis=False)
    assert not [value for value in EXACT if value in told]
    assert "Unpicklable cannot be copied: TypeError" in told


@pytest.mark.parametrize(
    "code",
    [
        "total = sum(results); time.sleep(0.2); return total",
        "total = sum(results); time.sleep(0.2); raise ValueError(f'bad {total}')",
        "asyncio.create_task(bad(sum(results))); await asyncio.sleep(0); await asyncio.sleep(0); return sum(results)",
    ],
    ids=["slow step", "slow failing step", "task that nobody awaits"],
)
@pytest.mark.parametrize("engine", ["auto", "threads"])
def test_an_event_loop_in_debug_mode_says_nothing_exact(code: str, engine: str) -> None:
    script = f"""
        import asyncio, time
        from star_actors import StarAggregator, StarAnalyzer, StarError, StarModelTester

        class Own(StarAnalyzer):
            async def analysis_method(self, data, last):
                await asyncio.sleep(0)
                time.sleep(0.15)
                return 3 * data

        async def bad(total):
            raise ValueError(f"bad {{total}}")

        class Sum(StarAggregator):
            async def aggregation_method(self, results):
                {code}

        try:
            StarModelTester({SPLITS}, Own, Sum, "s3", epsilon=1.0, sensitivity=1.0, engine={engine!r})
        except StarError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not [value for value in EXACT if value in done.stdout + done.stderr]


# What is released


def test_an_aggregator_with_data_of_its_own_is_refused_where_only_analyzers_noise() -> None:
    with pytest.raises(ConfigurationError, match="node_1, which has data of its own"):
        report_of(SPLITS, OWN, adds(lambda self, total: total), node_roles=["default", "aggregator"],
                  privacy=private(noise_at="analyzer"))  # fmt: skip


@pytest.mark.parametrize("several", [True, False])
def test_several_results_that_are_submitted_early_are_charged_each(several: bool) -> None:
    def submit(self: Any, total: float) -> float:
        self.flame.submit_final_result([total] * 20, multiple_results=several)
        return total

    report = report_of(SPLITS, OWN, adds(submit), privacy=private())
    assert report.privacy.epsilon == (21 if several else 2)


def test_early_results_are_within_the_budget() -> None:
    def submit(self: Any, total: float) -> float:
        self.flame.submit_final_result([total] * 20_000, multiple_results=True)
        return total

    with pytest.raises(PrivacyError, match="the next 20000 releases"):
        report_of(SPLITS, OWN, adds(submit), privacy=private(budget=2.0))


def submits(**local_dp: float) -> Any:
    def submit(self: Any, total: float) -> float:
        self.flame.submit_final_result(total, local_dp=local_dp)
        return total

    return adds(submit)


def test_an_aggregator_cannot_spend_more_on_a_release_than_the_run_does() -> None:
    with pytest.raises(NodeError, match="ConfigurationError") as caught:
        report_of(SPLITS, OWN, submits(epsilon=1e12, sensitivity=1.0), privacy=private())
    assert caught.value.report is not None
    assert caught.value.report.privacy.releases == []


def test_a_smaller_sensitivity_of_a_submitted_result_is_said_to_be_taken_on_trust() -> None:
    report = report_of(SPLITS, OWN, submits(epsilon=0.5, sensitivity=0.25), privacy=private())
    assert "sensitivity=0.25 of what the aggregator submits is taken on trust" in report.privacy.not_covered


def test_an_account_in_a_run_without_privacy_says_what_else_is_exact() -> None:
    account = report_of(SPLITS, OWN, submits(epsilon=1.0, sensitivity=1.0)).privacy
    assert any("aggregates and other results are exact" in text for text in account.not_covered)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep_exact": "no"}, "keep_exact='no'"),
        ({"disjoint": 0}, "disjoint=0"),
        ({"integers": "discrete", "sensitivity": 0.02}, "a sensitivity from 1 is wanted"),
    ],
)
def test_options_that_protect_less_than_they_seem_to_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        private(**options)


@pytest.mark.parametrize("name", ["strict", "permute"])
def test_checks_take_no_text_for_a_flag(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}='no'"):
        Checks(**{name: "no"})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [10**400, Fraction(10**400), np.timedelta64(3, "s")], ids=["int", "fraction", "time"])
def test_a_number_that_no_float_holds_is_refused_like_any_other(value: Any) -> None:
    with pytest.raises(PrivacyError):
        report_of(SPLITS, OWN, adds(lambda self, total: value), privacy=private())
