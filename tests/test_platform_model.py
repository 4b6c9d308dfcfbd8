"""StarModel itself: its arguments, and how its process sleeps and ends."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_flamesdk import Federation

from star_actors import ConfigurationError, StarAggregator, StarAnalyzer
from star_actors.platform import AsyncStarLocalDPModel, AsyncStarModel, StarLocalDPModel, StarModel
from star_actors.platform.peers import LONGEST_POLL, SHORTEST_POLL, pause_after
from star_actors.platform.stay import Stop

MODELS = [StarModel, StarLocalDPModel, AsyncStarModel, AsyncStarLocalDPModel]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Analyzer(StarAnalyzer):
    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        return 1


class Aggregator(StarAggregator):
    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return sum(analysis_results)


class Converging(Aggregator):
    def has_converged(self, result: Any, last_result: Any) -> bool:
        return True


@pytest.mark.parametrize("model", MODELS)
def test_the_positional_order_is_that_of_flame(model: type[Any]) -> None:
    positional = [name for name, p in inspect.signature(model).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    dp = ["epsilon", "sensitivity"] if "DP" in model.__name__ else []
    assert positional == [
        "analyzer",
        "aggregator",
        "data_type",
        "query",
        "simple_analysis",
        "output_type",
        "multiple_results",
        "analyzer_kwargs",
        "aggregator_kwargs",
        *dp,
    ]


def test_the_noised_model_is_a_star_model_as_on_flame() -> None:
    assert issubclass(StarLocalDPModel, StarModel)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"analyzer": Analyzer.__new__(Analyzer)}, "the class itself is wanted"),
        ({"aggregator": Analyzer}, "is a StarAnalyzer, and a StarAggregator is wanted"),
        ({"data_type": "csv"}, "'fhir' or 's3'"),
        ({"query": 3}, "query=3"),
        ({"simple_analysis": "no", "aggregator": Converging}, "simple_analysis"),
        ({"simple_analysis": False}, "has no has_converged"),
        ({"output_type": "json"}, "output_type"),
        ({"analyzer_kwargs": {"depth": 3}}, "depth"),
        ({"filename": 3}, "filename=3"),
        ({"filename": []}, "filename=\\[\\]"),
        ({"filename": ["a", "b"]}, "multiple_results=True"),
        ({"max_iterations": 0}, "max_iterations=0"),
        ({"round_timeout": 0}, "round_timeout=0"),
        ({"node_timeout": -1.0}, "node_timeout=-1.0"),
        ({"node_timeout": float("nan")}, "node_timeout=nan"),
        ({"stream_log_level": "info"}, "stream_log_level"),
        ({"test_mode": True}, "StarModelTester"),
        ({"test_kwargs": {}}, "StarModelTester"),
    ],
)
def test_a_wrong_argument_is_refused_before_the_sdk_is_asked_for(
    model: type[Any], wrong: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flamesdk", None)
    with pytest.raises(ConfigurationError, match=said):
        model(**{"analyzer": Analyzer, "aggregator": Aggregator, "data_type": "s3", **wrong})


async def test_the_blocking_model_names_its_twin_where_a_loop_is_running() -> None:
    with pytest.raises(ConfigurationError, match=r"await AsyncStarModel\("):
        StarModel(Analyzer, Aggregator, "s3")


async def test_flame_is_the_nodes_sdk() -> None:
    with Federation(analyzers=1) as hub, hub.installed():
        models: list[AsyncStarModel] = []

        async def run() -> Any:
            models.append(model := AsyncStarModel(Analyzer, Aggregator, "s3"))
            assert model.flame is None
            return await model

        await hub.star(run)
        assert {model.flame.get_id() for model in models} == set(hub.roles)


# How often the link looks


def test_a_link_looks_often_where_letters_come_and_seldom_where_none_do() -> None:
    assert pause_after(0.0) == SHORTEST_POLL <= 0.02
    assert pause_after(3600.0) == LONGEST_POLL >= 0.1


def test_a_letter_is_never_waited_for_longer_than_a_fraction_of_the_wait() -> None:
    assert all(pause_after(quiet) <= max(SHORTEST_POLL, quiet / 50) for quiet in (0.0, 0.5, 1.0, 5.0, 60.0))


# The process


SCRIPT = """
    import asyncio, sys, threading
    sys.path.insert(0, {tests!r})
    from fake_flamesdk import Federation
    from star_actors import StarAggregator, StarAnalyzer
    from star_actors.platform import AsyncStarModel, StarModel
    import star_actors.platform.stay as stay

    def say(*words):
        print(*words, flush=True)

    class Analyzer(StarAnalyzer):
        def analysis_method(self, data, aggregator_results):
            if self.id == "analyzer-0":
                {method}
            return 1

    class Aggregator(StarAggregator):
        def aggregation_method(self, analysis_results):
            return sum(analysis_results)

    hub = Federation()
    arguments = dict(analyzer=Analyzer, aggregator=Aggregator, data_type="s3")

    def others():
        say(asyncio.run(hub.star(lambda: AsyncStarModel(**arguments), ["analyzer-1", hub.aggregator])))

    def watch():  # until the main thread sleeps
        import time
        while True:
            frame = sys._current_frames()[threading.main_thread().ident]
            while frame is not None:
                if frame.f_code is stay.Stop.wait.__code__:
                    own = [t for t in threading.enumerate() if t.name == "star node analyzer-0"]
                    for thread in own:
                        thread.join(10)
                    return say("asleep", [t.name for t in own if t.is_alive()])
                frame = frame.f_back
            time.sleep(0.01)

    with hub.installed(), hub.on("analyzer-0"):
        partners = threading.Thread(target=others, daemon=True)
        partners.start()
        threading.Thread(target=watch, daemon=True).start()
        threading.Thread(target=threading.Event().wait).start()  # as the SDK's server: it never ends, and is no daemon
        try:
            StarModel(**arguments)
        finally:
            partners.join(4)  # they say what they came to
            say("cleaned up")
"""


@contextmanager
def node(method: str = "pass") -> Iterator[subprocess.Popen[str]]:
    """A process that is one analyzer, with `method` as its analysis; the other nodes run in a thread of it."""
    script = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), method=method)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        with process:
            yield process
            process.kill()
    finally:
        process.kill()


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if word in line:
            return said
    raise AssertionError(f"the process ended before it said {word!r}:\n{said}")


def test_the_main_thread_is_asleep_at_the_end_and_the_nodes_own_is_gone() -> None:
    with node() as process:
        assert "asleep []" in read_until(process, "asleep")


def test_sigterm_ends_a_node_that_has_finished_with_status_0() -> None:
    with node() as process:
        read_until(process, "asleep")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_sigterm_between_the_end_of_a_run_and_its_sleep_stops_nothing_in_its_middle() -> None:
    script = """
        import signal
        from star_actors.platform.stay import Stop

        stop = Stop()
        with stop.calling(lambda: print("called")):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        stop.wait()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    assert (process.stdout, process.returncode) == ("called\n", 0)


def test_clean_up_of_the_users_own_runs_when_the_platform_stops_the_node() -> None:
    with node() as process:
        read_until(process, "asleep")
        process.send_signal(signal.SIGTERM)
        assert "cleaned up" in read_until(process, "cleaned up")


def test_sigterm_in_the_middle_of_a_run_tells_the_partners_and_ends_the_node() -> None:
    with node("say('computing'); threading.Event().wait()") as process:
        read_until(process, "computing")
        process.send_signal(signal.SIGTERM)
        assert "it was stopped" in read_until(process, "aggregator-node")
        assert process.wait(20) == 128 + signal.SIGTERM


def test_sigterm_ends_a_node_whose_script_has_failed_and_left_the_sdks_thread() -> None:
    with node("raise RuntimeError('on purpose')") as process:
        read_until(process, "cleaned up")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM


def test_a_handler_of_the_users_own_is_left_alone() -> None:
    def own(signum: int, frame: object) -> None:
        """The user's."""

    before = signal.signal(signal.SIGTERM, own)
    try:
        Stop()
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
