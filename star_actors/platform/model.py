"""StarModel and StarLocalDPModel: one node's part in a star on FLAME, blocking and awaitable."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from typing import Any, Literal

from ..errors import ConfigurationError
from ..nodes import StarAggregator, StarAnalyzer
from .node import NodeRun, run_node
from .plan import make_plan
from .stay import Stop

__all__ = ["AsyncStarLocalDPModel", "AsyncStarModel", "StarLocalDPModel", "StarModel"]

OutputType = Literal["str", "bytes", "pickle"] | list[Literal["str", "bytes", "pickle"]]

DAY = 86_400.0
MINUTE = 60.0


class _Model:
    """The arguments of a star, checked. `flame` is the node's SDK, None until it is there."""

    flame: Any = None

    def __init__(
        self,
        analyzer: type[StarAnalyzer],
        aggregator: type[StarAggregator],
        data_type: Literal["fhir", "s3"],
        query: str | list[str] | None = None,
        simple_analysis: bool = True,
        output_type: OutputType = "str",
        multiple_results: bool = False,
        analyzer_kwargs: Mapping[str, Any] | None = None,
        aggregator_kwargs: Mapping[str, Any] | None = None,
        *,
        filename: str | list[str] | None = None,
        stream_log_level: int = 20,
        max_iterations: int | None = 10_000,
        round_timeout: float | None = DAY,
        node_timeout: float | None = MINUTE,
        test_mode: bool = False,
        test_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._plan = make_plan(
            analyzer,
            aggregator,
            data_type,
            query,
            simple_analysis,
            output_type,
            multiple_results,
            analyzer_kwargs,
            aggregator_kwargs,
            filename=filename,
            stream_log_level=stream_log_level,
            max_iterations=max_iterations,
            round_timeout=round_timeout,
            node_timeout=node_timeout,
            testing=test_mode or test_kwargs is not None,
        )
        self._start()

    def _start(self) -> None:
        """Called once the arguments are checked."""

    async def _run(self) -> NodeRun:
        def opened(sdk: Any) -> None:
            self.flame = sdk

        return await run_node(self._plan, opened)


class _LocalDPModel(_Model):
    """The same with the parameters of the noise."""

    def __init__(
        self,
        analyzer: type[StarAnalyzer],
        aggregator: type[StarAggregator],
        data_type: Literal["fhir", "s3"],
        query: str | list[str] | None = None,
        simple_analysis: bool = True,
        output_type: OutputType = "str",
        multiple_results: bool = False,
        analyzer_kwargs: Mapping[str, Any] | None = None,
        aggregator_kwargs: Mapping[str, Any] | None = None,
        epsilon: float | None = None,
        sensitivity: float | None = None,
        *,
        filename: str | list[str] | None = None,
        stream_log_level: int = 20,
        max_iterations: int | None = 10_000,
        round_timeout: float | None = DAY,
        node_timeout: float | None = MINUTE,
        test_mode: bool = False,
        test_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._plan = make_plan(
            analyzer,
            aggregator,
            data_type,
            query,
            simple_analysis,
            output_type,
            multiple_results,
            analyzer_kwargs,
            aggregator_kwargs,
            epsilon=epsilon,
            sensitivity=sensitivity,
            noise_expected=True,
            filename=filename,
            stream_log_level=stream_log_level,
            max_iterations=max_iterations,
            round_timeout=round_timeout,
            node_timeout=node_timeout,
            testing=test_mode or test_kwargs is not None,
        )
        self._start()


class StarModel(_Model):
    """One node's part in a star on FLAME. Runs it, then sleeps until the platform stops the node; never returns.

    The first nine arguments are the tester's without `data_splits`: `analyzer` and `aggregator` are classes,
    `data_type` is "fhir" or "s3", `query` a FHIR query or an S3 object's name, or a list of them (None: all S3
    objects). `filename` is what the result is called on the Hub, one name or one for each of several results.
    `stream_log_level` is the lowest level of log lines that the Hub is sent (20: info).

    `max_iterations` caps the rounds (None: no cap). `round_timeout` is how many seconds a round may last;
    `node_timeout` how many a partner may leave every message unanswered, which a node that computes does not, so that
    it can be short where rounds are long. None: no limit.

    Raises ConfigurationError before anything starts, NodeError where this node's code, a partner or the platform ends
    the run, NotConvergedError, PrivacyError, EncodingError and DeliveryError as the tester does. The partners have been
    told by then. `flame` is the SDK, as in FLAME's own class.
    """

    def _start(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise ConfigurationError(
                f"{type(self).__name__}(...) is called where an event loop is running, which it would block: write "
                f"await Async{type(self).__name__}(...), with the same arguments"
            )
        stop = Stop()

        async def run() -> None:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None
            with stop.calling(lambda: loop.call_soon_threadsafe(task.cancel)):
                await self._run()

        try:
            asyncio.run(run())
        except asyncio.CancelledError:
            if not stop.requested:
                raise
            stop.exit()
        stop.wait()


class StarLocalDPModel(_LocalDPModel, StarModel):
    """StarModel whose final result gets Laplace noise of scale `sensitivity / epsilon` from the node's result service.

    Takes `epsilon` and `sensitivity` after `aggregator_kwargs`, both or neither. The service noises one finite int or
    float, or each element where `multiple_results` is set (each is one draw and one epsilon); for anything else the
    run ends with a PrivacyError and nothing is released. The noise never depends on what `has_converged` answered.
    """


class AsyncStarModel(_Model):
    """StarModel for code that owns its event loop: `run = await AsyncStarModel(...)`, with the same arguments.

    Gives a NodeRun when this node's part is over, and sets no signal handler. Keep the process alive then, asleep,
    until the platform stops it: until then the SDK answers for the node from a thread of this process.
    """

    def __await__(self) -> Generator[Any, None, NodeRun]:
        return self._run().__await__()


class AsyncStarLocalDPModel(_LocalDPModel, AsyncStarModel):
    """StarLocalDPModel for code that owns its event loop; see AsyncStarModel."""
