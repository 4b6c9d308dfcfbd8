"""The yardsticks: the bare serial loop, and the same loop divided among processes by hand."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.measurement import Stopwatch
from benchmarks.workloads import Workload, bare_loop

from .base import Contender

__all__ = ["BareLoop", "BareProcesses"]


class BareLoop(Contender):
    """A plain `for` loop: no nodes, no messages, no isolation."""

    name = "bare"
    title = "bare loop"
    kind = "yardstick"

    def rounds(self, workload: Workload) -> int:
        return 2 if workload.name == "W4" else workload.rounds

    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        return bare_loop(workload, stopwatch.lap)


class BareProcesses(Contender):
    """One forked process a core, each with a fixed share of the nodes and a pipe: what the machine can give at most.

    Where this falls short of the serial time divided by the cores, no engine could have reached it.
    """

    name = "bare_processes"
    title = "bare loop, one process a core"
    kind = "yardstick"

    def available(self) -> str | None:
        return None if "fork" in multiprocessing.get_all_start_methods() else f"{self.title} needs os.fork"

    def unfit(self, workload: Workload) -> str | None:
        return None if workload.name in ("W2", "W3") else "the bare loop is the yardstick here"

    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        context = multiprocessing.get_context("fork")
        workers = min(os.cpu_count() or 1, workload.n)
        splits, pipes, processes = workload.splits(), [], []
        for worker in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(workload, splits[worker::workers], theirs), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        aggregate = None
        contributions: list[Any] = [None] * workload.n
        for _ in range(workload.rounds):
            for pipe in pipes:
                pipe.send((True, aggregate))
            for worker, pipe in enumerate(pipes):
                contributions[worker::workers] = pipe.recv()
            aggregate = workload.combine(contributions)
            stopwatch.lap(aggregate)
        for pipe, process in zip(pipes, processes, strict=True):
            # A closed pipe would not tell them: later workers inherit a copy of our end.
            pipe.send((False, None))
            process.join()
            pipe.close()
        return aggregate


def _serve(workload: Workload, splits: list[Any], pipe: Connection) -> None:
    while True:
        another, aggregate = pipe.recv()
        if not another:
            return
        pipe.send([workload.analyze(split, aggregate) for split in splits])
