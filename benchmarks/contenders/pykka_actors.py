"""pykka: an actor, and so a thread, per node; the round asks every actor and waits for the answers."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.measurement import Stopwatch
from benchmarks.workloads import Workload

from .base import Contender

__all__ = ["Pykka"]


class Pykka(Contender):
    """A thread per actor, futures for the answers; messages are passed by reference."""

    name = "pykka"
    title = "pykka"
    kind = "actors"
    needs = "pykka"
    install = "pykka>=4"

    def unfit(self, workload: Workload) -> str | None:
        return "a thread per actor: 10,000 threads" if workload.n > 2000 else None

    def rounds(self, workload: Workload) -> int:
        return max(20, workload.rounds // 5)

    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        pykka: Any = importlib.import_module("pykka")

        class Analyzer(pykka.ThreadingActor):  # type: ignore[misc]
            use_daemon_thread = True

            def __init__(self, index: int) -> None:
                super().__init__()
                self.split = workload.split(index)

            def on_receive(self, message: Any) -> Any:
                return workload.analyze(self.split, message)

        actors = [Analyzer.start(index) for index in range(workload.n)]
        aggregate = None
        for _ in range(workload.rounds):
            answers = [actor.ask(aggregate, block=False) for actor in actors]
            aggregate = workload.combine([answer.get() for answer in answers])
            stopwatch.lap(aggregate)
        for actor in actors:
            actor.stop(block=False)
        for actor in actors:
            actor.actor_stopped.wait()
        return aggregate
