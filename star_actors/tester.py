"""AsyncStarModelTester: run a STAR analysis from async code, whole or round by round."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from time import perf_counter
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import anyio.lowlevel

from .config import OutputType, Paths, configure
from .display.progress import live_display, shown
from .nodes import StarAggregator, StarAnalyzer
from .options import Checks, EngineOptions, History, Privacy
from .report import Report, Round
from .run import GRACE, Event, Run

__all__ = ["AsyncStarModelTester", "Tester"]


class Tester:
    """What both testers share: the arguments, checked when the tester is made, and what a run has told so far."""

    _run: Run | None = None

    def __init__(
        self,
        data_splits: Sequence[Any],
        analyzer: type[StarAnalyzer],
        aggregator: type[StarAggregator],
        data_type: Literal["fhir", "s3"],
        query: str | list[str] | None = None,
        simple_analysis: bool = True,
        output_type: OutputType = "str",
        analyzer_kwargs: Mapping[str, Any] | None = None,
        aggregator_kwargs: Mapping[str, Any] | None = None,
        epsilon: float | None = None,
        sensitivity: float | None = None,
        result_filepath: Paths | None = None,
        *,
        node_roles: Sequence[str] | None = None,
        multiple_results: bool = False,
        filename: Paths | None = None,
        stream_log_level: int = 10,
        max_iterations: int | None = 10_000,
        timeout: float | None = None,
        seed: int | None = None,
        copy_data: bool = True,
        progress: bool | None = None,
        engine: str | EngineOptions = "auto",
        privacy: Privacy | None = None,
        checks: Checks | None = None,
        history: History | None = None,
    ) -> None:
        """Describe a run. Raises ConfigurationError: what was given, what is wanted, what to do.

        `data_splits` holds one split per analyzer node, `analyzer` and `aggregator` are classes, not instances.
        `data_type` is "s3" or "fhir". `simple_analysis=True` is one round; False goes on until `has_converged`.
        `output_type` is "str", "bytes" or "pickle"; `result_filepath` (on FLAME's newer releases `filename`) is where
        the encoded result goes. `epsilon` and `sensitivity` add Laplace noise to the final result.
        `analyzer_kwargs` and `aggregator_kwargs` go to the constructors. `query` is a placeholder here.

        `node_roles` gives one role per split. `multiple_results` delivers a list or tuple item by item.
        `stream_log_level` is the lowest level of logs shown. `max_iterations` caps the rounds (None: no cap), `timeout`
        the whole run in seconds. `seed` seeds the global generators per node and round. `copy_data=False` hands the
        splits over without copying. `progress` shows a live display, None: where there is a terminal. `engine` says
        where user code runs: "auto", "serial", "threads", "processes", or an option object. `privacy`, `checks` and
        `history` take option objects. Source: the guide, Parameters Explained.
        """
        self._config = configure(
            data_splits,
            analyzer,
            aggregator,
            data_type,
            query,
            simple_analysis,
            output_type,
            analyzer_kwargs,
            aggregator_kwargs,
            epsilon,
            sensitivity,
            result_filepath,
            node_roles=node_roles,
            multiple_results=multiple_results,
            filename=filename,
            stream_log_level=stream_log_level,
            max_iterations=max_iterations,
            timeout=timeout,
            seed=seed,
            copy_data=copy_data,
            progress=progress,
            engine=engine,
            privacy=privacy,
            checks=checks,
            history=history,
        )
        self._report: Report | None = None
        self._made()

    def _made(self) -> None:
        """Called once the arguments are checked."""

    @property
    def report(self) -> Report:
        """What the run has done so far."""
        if self._report is None:
            if self._run is None:
                return Report()
            if not self._run.ended.is_set():
                return self._run.report()
            self._report = self._run.report()
        return self._report

    @property
    def result(self) -> Any:
        """The released result; None as long as there is none."""
        return self.report.result

    def __repr__(self) -> str:
        from .display.summary import headline

        told = "not started: await it" if self._run is None else f"{headline(self.report)}; see its result and report"
        return f"<{type(self).__name__}: {told}>"


class AsyncStarModelTester(Tester):
    """Test a STAR analysis from async code. Same arguments as `StarModelTester`; prints nothing.

    `report = await AsyncStarModelTester(...)` runs it whole. `async with AsyncStarModelTester(...) as tester:` and
    `async for round in tester:` run it round by round: round k+1 starts when it is asked for, a node's failure rises
    from the iteration, and leaving the block early stops every node and releases nothing.

    User code never runs on the caller's event loop. Cancelling the awaiting task stops every node.
    """

    _events: _Events | None = None
    _described = False

    def _made(self) -> None:
        self._described = True

    def __del__(self) -> None:
        if self._described and self._run is None:
            warnings.warn("an AsyncStarModelTester was never awaited: nothing ran", RuntimeWarning, stacklevel=1)

    def __await__(self) -> Generator[Any, Any, Report]:
        return self._whole().__await__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    def __aiter__(self) -> AsyncIterator[Round]:
        return self._rounds()

    async def _whole(self) -> Report:
        if self._run is None:
            self._begin(stepwise=False)
        run, events = self._begun()
        try:
            with shown(live_display(self._config, run.record, default=False), on_thread=True):
                while not run.ended.is_set():
                    if run.stepwise:
                        run.advance()
                    await events.next()
        finally:
            await self._stop()
        return self._outcome()

    async def _rounds(self) -> AsyncIterator[Round]:
        if self._run is None:
            self._begin(stepwise=True)
        run, events = self._begun()
        try:
            with shown(live_display(self._config, run.record, default=False), on_thread=True):
                while True:
                    event = await events.next()
                    if event == "ended":
                        break
                    yield run.record.round(event)
                    run.advance()
        finally:
            await self._stop()
        self._outcome()

    def _begin(self, *, stepwise: bool) -> None:
        events = self._events = _Events()
        self._run = Run(self._config, events.add, stepwise=stepwise)
        events.watch(self._run)
        self._run.start()

    def _begun(self) -> tuple[Run, _Events]:
        assert self._run is not None and self._events is not None
        return self._run, self._events

    async def _stop(self) -> None:
        """Stop the run where it has not ended, and give it a moment; then leave it behind."""
        run = self._run
        if run is None:
            return
        if not run.ended.is_set():
            _, events = self._begun()
            run.cancel("stopped")
            with anyio.CancelScope(shield=True), anyio.move_on_after(GRACE):
                while await events.next() != "ended":
                    continue
            if not run.ended.is_set():
                run.abandon("stopped")
        run.join()

    def _outcome(self) -> Report:
        run, _ = self._begun()
        if run.error is not None:
            raise run.error
        return self.report


class _Events:
    """A run's events, brought from its threads to the caller's event loop, asyncio's or trio's."""

    def __init__(self) -> None:
        native: Any = anyio.lowlevel.current_token().native_token
        self._call_soon: Callable[[Callable[[], None]], Any] = (
            native.call_soon_threadsafe if hasattr(native, "call_soon_threadsafe") else native.run_sync_soon
        )
        self._events: list[Event] = []
        self._bell = anyio.Event()
        self._run: Run | None = None

    def watch(self, run: Run) -> None:
        self._run = run

    def add(self, event: Event) -> None:
        """Add an event; from any thread."""
        run = self._run
        if event == "ended" or (run is not None and run.stepwise):
            self._events.append(event)
            try:
                self._call_soon(self._ring)
            except RuntimeError:  # the caller's loop has ended without waiting for its tester
                return

    async def next(self) -> Event:
        """Wait for the next event; a run that is over its time and does not end by itself is abandoned."""
        run = self._run
        assert run is not None
        while not self._events:
            with anyio.move_on_after(_left(run)) as limit:
                await self._bell.wait()
            if limit.cancelled_caught and not run.ended.is_set():
                run.abandon("timeout")
            self._bell = anyio.Event()
        return self._events.pop(0)

    def _ring(self) -> None:
        self._bell.set()


def _left(run: Run) -> float:
    return float("inf") if run.deadline is None else max(0.0, run.deadline + GRACE - perf_counter())
