"""FLAME's SDK as nodes use it: its start, its data sources, its way to fail, and `self.flame` as analyses see it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fake_flamesdk import Federation, FlameCoreSDK

from star_actors import ConfigurationError, NodeError, StarAggregator, StarAnalyzer, StarError
from star_actors.platform import AsyncStarModel, NodeRun
from star_actors.platform.sdk import SdkError, load_sdk, open_sdk

BUNDLE = {"resourceType": "Bundle", "total": 3}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hub() -> Iterator[Federation]:
    with Federation(analyzers=1) as hub, hub.installed():
        yield hub


@pytest.fixture
def sdk(hub: Federation) -> Any:
    hub.s3("analyzer-0", {"a": b"1", "b": b"2"})
    with hub.on("analyzer-0"):
        return open_sdk(20, None)


class Data(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return data


class First(StarAggregator):
    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return analysis_results[0]


async def released(hub: Federation, data_type: Any, query: Any) -> Any:
    ends = await hub.star(lambda: AsyncStarModel(Data, First, data_type, query, output_type="pickle"))
    assert all(isinstance(end, NodeRun) for end in ends.values()), ends
    return hub.released[-1].result


# Data


async def test_s3_objects_come_as_one_dict_a_source(hub: Federation) -> None:
    hub.s3("analyzer-0", {"a": b"1", "b": b"2"})
    hub.s3("analyzer-0", {"c": b"3"})
    assert await released(hub, "s3", None) == [{"a": b"1", "b": b"2"}, {"c": b"3"}]


async def test_a_query_chooses_among_s3_objects(hub: Federation) -> None:
    hub.s3("analyzer-0", {"a": b"1", "b": b"2"})
    assert await released(hub, "s3", "b") == [{"b": b"2"}]


async def test_fhir_bundles_come_by_query(hub: Federation) -> None:
    hub.fhir("analyzer-0", {"Patient": BUNDLE, "Observation": BUNDLE})
    assert await released(hub, "fhir", ["Patient"]) == [{"Patient": BUNDLE}]


@pytest.mark.parametrize("strict", [False, True])
async def test_a_source_of_the_wrong_kind_gives_nothing_and_stops_nobody(hub: Federation, strict: bool) -> None:
    """A FHIR server answers an S3 listing with 404, for which the SDK itself would fail the node."""
    hub.strict_sources = strict
    hub.fhir("analyzer-0", {"Patient": BUNDLE})
    hub.s3("analyzer-0", {"a": b"1"})
    assert await released(hub, "s3", "a") == [{}, {"a": b"1"}]


async def test_no_data_at_all_is_a_warning_in_the_log(hub: Federation) -> None:
    await released(hub, "s3", "nothing")
    assert any(kind == "warn" and "No data" in text for _, kind, text in hub.logs)


async def test_data_is_never_logged(hub: Federation) -> None:
    hub.s3("analyzer-0", {"a": b"patient 4711"})
    await released(hub, "s3", "a")
    assert "4711" not in str(hub.logs)


async def test_a_source_that_fails_ends_the_star(hub: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: FlameCoreSDK, keys: list[str]) -> Any:
        self._flame_logger.raise_error("the bucket is on fire")

    monkeypatch.setattr(FlameCoreSDK, "_get_s3_data", broken)
    ends = await hub.star(lambda: AsyncStarModel(Data, First, "s3"))
    assert "the bucket is on fire" in str(ends["analyzer-0"])
    assert isinstance(ends[hub.aggregator], NodeError)


# Services that are away


@pytest.mark.parametrize("service", ["start", "messages", "storage"])
async def test_a_service_that_is_away_for_a_while_is_waited_for(hub: Federation, service: str) -> None:
    hub.s3("analyzer-0", {"a": b"1"})
    answers = iter([503, 502])
    hub.refusals = lambda node_id, asked: next(answers, None) if asked == service else None
    assert await released(hub, "s3", "a") == [{"a": b"1"}]
    assert len([what for _, what in hub.happened if service in what]) == 2
    assert not [what for _, what in hub.happened if what == "marked failed"]


async def test_an_sdk_that_cannot_start_is_an_error_and_no_sleep(hub: Federation) -> None:
    hub.refusals = lambda node_id, service: 404 if service == "start" else None
    ends = await hub.star(lambda: AsyncStarModel(Data, First, "s3"))
    assert all(type(end) is StarError and "could not be started" in str(end) for end in ends.values())


# self.flame


def test_participants_answer_to_the_keys_of_the_sdk_and_of_the_mock(hub: Federation, sdk: Any) -> None:
    assert sdk.get_participants() == [
        {"nodeId": hub.aggregator, "nodeType": "aggregator", "id": hub.aggregator, "role": "aggregator"}
    ]


def test_the_aggregator_knows_its_own_id(hub: Federation) -> None:
    with hub.on(hub.aggregator):
        assert open_sdk(20, None).get_aggregator_id() == hub.aggregator


def test_flame_is_an_instance_of_the_sdks_own_class(sdk: Any) -> None:
    assert isinstance(sdk, FlameCoreSDK)
    assert type(sdk).__name__ == "FlameCoreSDK"


@pytest.mark.parametrize(
    ("given", "logged"),
    [("normal", "info"), ("warning", "warn"), ("emergency", "emerg"), ("critical-error", "crit"), ("alert", "alert")],
)
def test_log_types_of_the_mock_stop_no_node(hub: Federation, sdk: Any, given: str, logged: str) -> None:
    sdk.flame_log("line", log_type=given)
    assert hub.logs[-1] == ("analyzer-0", logged, "line")


@pytest.mark.parametrize(("line", "logged"), [(3.5, "3.5"), (["a", 1], "a1"), ({"k": 1}, "{'k': 1}"), (None, "None")])
def test_anything_can_be_logged(hub: Federation, sdk: Any, line: Any, logged: str) -> None:
    sdk.flame_log(line, file=None, suppress_head=True)
    assert hub.logs[-1][2] == logged


def test_an_unknown_log_type_raises_where_the_sdk_would_sleep(sdk: Any) -> None:
    with pytest.raises(SdkError, match="unknown log type"):
        sdk.flame_log("line", log_type="shout")


async def test_blocking_calls_work_where_a_loop_is_running(sdk: Any) -> None:
    assert sdk.get_s3_data(["a"]) == [{"a": b"1"}]


async def test_an_error_of_a_blocking_call_rises_where_a_loop_is_running(sdk: Any) -> None:
    with pytest.raises(SdkError, match="reserved"):
        sdk.send_message(["aggregator-node"], "category", {"meta": 1})


async def test_calls_can_be_awaited_beside_each_other(sdk: Any) -> None:
    both = await asyncio.gather(sdk.aio.get_s3_data(["a"]), sdk.aio.get_s3_data(["b"]))
    assert list(both) == [[{"a": b"1"}], [{"b": b"2"}]]


def test_the_level_of_streamed_logs_is_passed_on(hub: Federation) -> None:
    with hub.on("analyzer-0"):
        assert open_sdk(40, None).stream_log_level == 40


async def test_the_sdks_server_thread_outlives_a_script_that_fails(hub: Federation) -> None:
    """It tells the platform that the node has failed. Threads inherit being a daemon from who starts them."""
    await hub.star(lambda: AsyncStarModel(Data, First, "s3"))
    assert {sdk.server_is_daemon for sdk in hub.sdks.values()} == {False}


# The SDK is optional


def test_without_the_sdk_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flamesdk", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flamesdk @ git\+https"):
        load_sdk()


def test_an_sdk_that_is_too_old_is_refused_by_its_version(hub: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    def flame_log(self: Any, msg: str, sep: str = " ", log_type: str = "normal", suppress_head: bool = False) -> None:
        """As in 0.5."""

    monkeypatch.setattr(FlameCoreSDK, "flame_log", flame_log)
    with pytest.raises(ConfigurationError, match=r"older than 0\.6\.0"):
        load_sdk()


def test_importing_the_platform_imports_neither_the_sdk_nor_its_libraries() -> None:
    code = (
        "import sys, star_actors.platform; "
        "print([m for m in ('flamesdk', 'httpx', 'fastapi', 'uvicorn', 'opendp') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
