"""star_actors: the public testers as a user calls them, once per engine, blocking and awaited."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from benchmarks.measurement import Stopwatch
from benchmarks.workloads import Workload

from .base import Contender

__all__ = ["Star", "StarAwaited", "StarProcesses", "StarSerial", "StarThreads"]


class Star(Contender):
    """The blocking call with its default engine; isolation, timing, history and release are all on."""

    name = "star"
    title = "star_actors"
    kind = "ours"
    engine: ClassVar[str] = "auto"
    workloads: ClassVar[tuple[str, ...]] = ("W1", "W2", "W3", "W4", "W5", "W6")
    most_nodes: ClassVar[int] = 10_000

    def __init__(self, **options: Any) -> None:
        self.options = options

    def unfit(self, workload: Workload) -> str | None:
        if workload.name in self.workloads and workload.n <= self.most_nodes:
            return None
        return f"measured on {', '.join(self.workloads)} up to {self.most_nodes} nodes"

    def arguments(self, workload: Workload, stopwatch: Stopwatch | None) -> dict[str, Any]:
        """The tester's arguments; with a stopwatch, the aggregator takes its laps."""
        from star_actors import StarAggregator, StarAnalyzer

        analyze, combine, last = workload.analyze, workload.combine, workload.rounds - 1

        class Analyzer(StarAnalyzer):
            def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
                return analyze(data, aggregator_results)

        class Aggregator(StarAggregator):
            def aggregation_method(self, analysis_results: list[Any]) -> Any:
                return combine(analysis_results)

            def has_converged(self, result: Any, last_result: Any) -> bool:
                if stopwatch is not None:
                    stopwatch.lap(result)
                return self.num_iterations >= last

        return {
            "data_splits": workload.splits(),
            "analyzer": Analyzer,
            "aggregator": Aggregator,
            "data_type": "s3",
            "simple_analysis": False,
            "max_iterations": None,
            "engine": self.engine,
            **self.options,
        }

    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        from star_actors import StarModelTester

        return StarModelTester(**self.arguments(workload, stopwatch), progress=False).result


class StarAwaited(Star):
    """`await AsyncStarModelTester(...)` on the caller's own loop."""

    name = "star_awaited"
    title = "star_actors, awaited"
    workloads = ("W1",)

    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        from star_actors import AsyncStarModelTester

        async def call() -> Any:
            return (await AsyncStarModelTester(**self.arguments(workload, stopwatch))).result

        return asyncio.run(call())


class StarSerial(Star):
    """One thread, node order."""

    name = "star_serial"
    title = "star_actors, serial"
    engine = "serial"
    workloads = ("W1", "W5")


class StarThreads(Star):
    """A worker thread per node."""

    name = "star_threads"
    title = "star_actors, threads"
    engine = "threads"
    workloads = ("W1", "W2", "W4", "W5")
    most_nodes = 1000


class StarProcesses(Star):
    """Worker processes; the rounds are timed as they reach the caller, since the nodes are elsewhere."""

    name = "star_processes"
    title = "star_actors, processes"
    engine = "processes"
    workloads = ("W1", "W2", "W3", "W5")
    most_nodes = 1000
    needs = "cloudpickle"
    install = "star-actors[processes]"

    def rounds(self, workload: Workload) -> int:
        return max(20, workload.rounds // 5)

    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        from star_actors import AsyncStarModelTester

        async def call() -> Any:
            async with AsyncStarModelTester(**self.arguments(workload, None)) as tester:
                async for finished in tester:
                    stopwatch.lap(finished.aggregate)
            for node in tester.report.nodes:
                if node.role == "default" and node.ran_on in ("run thread", "worker thread"):
                    raise RuntimeError(f"{node.id} ran on the {node.ran_on}, a worker process was asked for")
            return tester.report.result

        return asyncio.run(call())
