"""Ray: an actor, and so a process, per node; the aggregate goes through its object store."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any, ClassVar

from benchmarks.measurement import Stopwatch
from benchmarks.workloads import Workload

from .base import Contender

__all__ = ["Ray"]


class Ray(Contender):
    """A worker process per actor on a local cluster that is started for the run."""

    name = "ray"
    title = "Ray, an actor per node"
    kind = "actors"
    needs = "ray"
    install = "ray>=2.40"
    heavy = True
    environment: ClassVar[Mapping[str, str]] = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
    }

    def unfit(self, workload: Workload) -> str | None:
        return "a process of about 60 MB per actor" if workload.n > 10 else None

    def rounds(self, workload: Workload) -> int:
        return workload.rounds // 10 if workload.name == "W1" else workload.rounds

    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        ray: Any = importlib.import_module("ray")

        class Analyzer:
            def __init__(self, workload: Workload, index: int) -> None:
                self.analyze, self.split = workload.analyze, workload.split(index)

            def step(self, aggregate: Any) -> Any:
                return self.analyze(self.split, aggregate)

        ray.init(
            num_cpus=os.cpu_count(),
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=1 << 30,
        )
        try:
            actor = ray.remote(num_cpus=0)(Analyzer)
            actors = [actor.remote(workload, index) for index in range(workload.n)]
            aggregate = None
            for _ in range(workload.rounds):
                shared = ray.put(aggregate)
                aggregate = workload.combine(ray.get([actor.step.remote(shared) for actor in actors]))
                stopwatch.lap(aggregate)
        finally:
            ray.shutdown()
        return aggregate
