"""What a star on FLAME releases: encodings, names, and noise that is never skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_flamesdk import Federation

from star_actors import (
    ConfigurationError,
    DeliveryError,
    EncodingError,
    NodeError,
    PrivacyError,
    StarAggregator,
    StarAnalyzer,
)
from star_actors.platform import AsyncStarLocalDPModel, AsyncStarModel, NodeRun

NOISE = {"epsilon": 0.5, "sensitivity": 2.0}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hub() -> Iterator[Federation]:
    with Federation(analyzers=1) as hub, hub.installed():
        hub.s3("analyzer-0", {"numbers": b"123"})
        yield hub


class Analyzer(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return 1


class Gives(StarAggregator):
    """Ends with `result`."""

    def __init__(self, flame: Any, result: Any, converges: bool = False) -> None:
        super().__init__(flame)
        self.result = result
        self.converges = converges

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return self.result

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return self.converges


def gives(result: Any, **options: Any) -> AsyncStarModel:
    return AsyncStarModel(Analyzer, Gives, "s3", aggregator_kwargs={"result": result}, **options)


def gives_noised(result: Any, **options: Any) -> AsyncStarLocalDPModel:
    return AsyncStarLocalDPModel(Analyzer, Gives, "s3", aggregator_kwargs={"result": result}, **{**NOISE, **options})


@pytest.mark.parametrize(
    ("result", "output_type", "released"),
    [
        (3.5, "str", "3.5"),
        (None, "str", "None"),
        (bytearray(b"png"), "bytes", b"png"),
        ({"a": [1]}, "pickle", {"a": [1]}),
    ],
)
async def test_a_result_is_released_as_its_output_type(
    hub: Federation, result: Any, output_type: Any, released: Any
) -> None:
    await hub.star(lambda: gives(result, output_type=output_type))
    assert [(r.result, r.output_type, r.filename) for r in hub.released] == [(released, output_type, None)]


async def test_the_file_name_is_passed_on(hub: Federation) -> None:
    await hub.star(lambda: gives(1, filename="mean.txt"))
    assert [r.filename for r in hub.released] == ["mean.txt"]


async def test_several_results_are_released_one_by_one(hub: Federation) -> None:
    await hub.star(
        lambda: gives((1, b"x"), multiple_results=True, output_type=["str", "bytes"], filename=["a.txt", "b.bin"])
    )
    assert [(r.result, r.output_type, r.filename) for r in hub.released] == [
        ("1", "str", "a.txt"),
        (b"x", "bytes", "b.bin"),
    ]


async def test_a_list_of_one_result_is_released_as_its_element(hub: Federation) -> None:
    await hub.star(lambda: gives([7], multiple_results=True, filename=["seven.txt"]))
    assert [(r.result, r.filename) for r in hub.released] == [("7", "seven.txt")]


@pytest.mark.parametrize("result", ["text", 5, np.zeros(2)])
async def test_what_is_no_bytes_is_refused_as_bytes_before_anything_is_released(hub: Federation, result: Any) -> None:
    ends = await hub.star(lambda: gives(result, output_type="bytes"))
    assert isinstance(ends[hub.aggregator], EncodingError)
    assert not hub.released


async def test_an_analyzer_hears_of_a_result_that_could_not_be_released(hub: Federation) -> None:
    ends = await hub.star(lambda: gives("text", output_type="bytes"))
    assert "EncodingError" in str(ends["analyzer-0"])


@pytest.mark.parametrize("options", [{"filename": ["a", "b", "c"]}, {"output_type": ["str", "str", "str"]}])
async def test_lists_that_do_not_match_the_number_of_results_are_refused(
    hub: Federation, options: dict[str, Any]
) -> None:
    ends = await hub.star(lambda: gives([1, 2], multiple_results=True, **options))
    assert isinstance(ends[hub.aggregator], DeliveryError)
    assert not hub.released


async def test_an_empty_list_of_results_is_an_error(hub: Federation) -> None:
    ends = await hub.star(lambda: gives([], multiple_results=True))
    assert isinstance(ends[hub.aggregator], DeliveryError)


async def test_a_result_service_that_is_away_is_asked_again(hub: Federation) -> None:
    refusals = iter([503, 503])
    hub.refusals = lambda node_id, service: next(refusals, None) if service == "final" else None
    ends = await hub.star(lambda: gives_noised(2.0))
    assert isinstance(ends[hub.aggregator], NodeRun)
    assert len(hub.released) == 1


async def test_a_refused_result_is_a_failure(hub: Federation) -> None:
    hub.refusals = lambda node_id, service: 400 if service == "final" else None
    ends = await hub.star(lambda: gives(2.0))
    assert isinstance(ends[hub.aggregator], NodeError)
    assert "400" in str(ends[hub.aggregator])


async def test_several_noised_results_are_never_released_twice(hub: Federation) -> None:
    answers = iter([None, 503, None, None])
    hub.refusals = lambda node_id, service: next(answers) if service == "final" else None
    await hub.star(lambda: gives_noised([1.0, 2.0], multiple_results=True))
    assert [r.result for r in hub.released] == [1.0]


@pytest.mark.parametrize("converges", [True, False])
@pytest.mark.parametrize("simple_analysis", [True, False])
async def test_noise_does_not_depend_on_has_converged(hub: Federation, simple_analysis: bool, converges: bool) -> None:
    class Converges(Gives):
        def has_converged(self, result: Any, last_result: Any) -> bool:
            return converges or self.num_iterations > 0

    await hub.star(
        lambda: AsyncStarLocalDPModel(
            Analyzer,
            Converges,
            "s3",
            simple_analysis=simple_analysis,
            aggregator_kwargs={"result": 2.5},
            **NOISE,  # type: ignore[arg-type]
        )
    )
    assert [(r.result, r.local_dp) for r in hub.released] == [(2.5, NOISE)]


async def test_each_of_several_results_is_noised(hub: Federation) -> None:
    await hub.star(lambda: gives_noised([1, 2.5], multiple_results=True))
    assert [(r.result, r.local_dp) for r in hub.released] == [(1, NOISE), (2.5, NOISE)]


@pytest.mark.parametrize("result", [np.int64(3), np.float32(3.0), np.float64(3.0)])
async def test_a_numpy_number_is_noised_as_the_number_that_it_is(hub: Federation, result: Any) -> None:
    await hub.star(lambda: gives_noised(result))
    assert [(type(r.result) in (int, float), r.result) for r in hub.released] == [(True, 3)]


@pytest.mark.parametrize(
    "result",
    [float("nan"), float("inf"), True, "3", None, [1.0], {"a": 1.0}, np.zeros(1), 10**400, np.float64("nan")],
)
async def test_what_flame_cannot_noise_is_refused_and_nothing_is_released(hub: Federation, result: Any) -> None:
    ends = await hub.star(lambda: gives_noised(result))
    assert isinstance(ends[hub.aggregator], PrivacyError)
    assert not hub.released


async def test_one_of_several_results_that_cannot_be_noised_keeps_all_back(hub: Federation) -> None:
    ends = await hub.star(lambda: gives_noised([1.0, "two"], multiple_results=True))
    assert isinstance(ends[hub.aggregator], PrivacyError)
    assert not hub.released


async def test_the_exact_result_is_in_no_log_and_no_error(hub: Federation) -> None:
    exact = 1234.567
    await hub.star(lambda: gives_noised(exact))
    ends = await hub.star(lambda: gives_noised([exact]))
    assert isinstance(ends[hub.aggregator], PrivacyError)
    assert "1234.567" not in str(hub.logs) + str(ends)


async def test_what_user_code_submits_itself_is_noised_as_well(hub: Federation) -> None:
    class Submits(Gives):
        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            self.flame.submit_final_result(41.0)
            return 42.0

    await hub.star(lambda: AsyncStarLocalDPModel(Analyzer, Submits, "s3", aggregator_kwargs={"result": 0}, **NOISE))  # type: ignore[arg-type]
    assert [(r.result, r.local_dp) for r in hub.released] == [(41.0, NOISE), (42.0, NOISE)]


@pytest.mark.parametrize("given", [{"epsilon": 1.0}, {"sensitivity": 1.0}])
def test_one_parameter_without_the_other_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="without"):
        AsyncStarLocalDPModel(Analyzer, Gives, "s3", aggregator_kwargs={"result": 1}, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True, "1"])
@pytest.mark.parametrize("name", ["epsilon", "sensitivity"])
def test_parameters_that_protect_nothing_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        gives_noised(1.0, **{name: value})


def test_bytes_cannot_be_noised() -> None:
    with pytest.raises(ConfigurationError, match="bytes"):
        gives_noised(1.0, output_type="bytes")


async def test_without_both_parameters_the_log_says_that_the_exact_result_is_released(hub: Federation) -> None:
    await hub.star(lambda: gives_noised(1.0, epsilon=None, sensitivity=None))
    assert [(r.result, r.local_dp) for r in hub.released] == [("1.0", None)]
    assert any("without noise" in text for _, _, text in hub.logs)


async def test_a_convergence_test_that_raises_in_one_round_is_a_warning(hub: Federation) -> None:
    class Raises(Gives):
        def has_converged(self, result: Any, last_result: Any) -> bool:
            raise TypeError("None")

    await hub.star(lambda: AsyncStarModel(Analyzer, Raises, "s3", aggregator_kwargs={"result": 5}))
    assert [r.result for r in hub.released] == ["5"]
    assert [kind for _, kind, text in hub.logs if "has_converged" in text] == ["warn"]
