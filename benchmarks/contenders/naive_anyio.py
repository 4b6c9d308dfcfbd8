"""Naive anyio: a task per node, a stream per node, `await send` and `await receive`; methods block the loop."""

from __future__ import annotations

import math
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from benchmarks.measurement import Stopwatch
from benchmarks.workloads import Workload

from .base import Contender

__all__ = ["NaiveAnyio"]


class NaiveAnyio(Contender):
    """What one writes first: no isolation, no timing, no handling of failures."""

    name = "naive_anyio"
    title = "naive anyio"
    kind = "actors"
    sequential = True

    def rounds(self, workload: Workload) -> int:
        return 2 if workload.name == "W4" else max(20, workload.rounds // 5)

    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        return anyio.run(_aggregate, workload, stopwatch)


async def _aggregate(workload: Workload, stopwatch: Stopwatch) -> Any:
    up, contributions = anyio.create_memory_object_stream[tuple[int, Any]](math.inf)
    aggregate = None
    async with anyio.create_task_group() as tasks, contributions:
        down = []
        for index in range(workload.n):
            send, receive = anyio.create_memory_object_stream[Any](1)
            down.append(send)
            tasks.start_soon(_analyze, workload, index, receive, up.clone())
        up.close()
        for _ in range(workload.rounds):
            for stream in down:
                await stream.send(aggregate)
            received: list[Any] = [None] * workload.n
            for _ in range(workload.n):
                index, value = await contributions.receive()
                received[index] = value
            aggregate = workload.combine(received)
            stopwatch.lap(aggregate)
        for stream in down:
            stream.close()
    return aggregate


async def _analyze(
    workload: Workload,
    index: int,
    aggregates: MemoryObjectReceiveStream[Any],
    up: MemoryObjectSendStream[tuple[int, Any]],
) -> None:
    analyze, split = workload.analyze, workload.split(index)
    async with aggregates, up:
        async for aggregate in aggregates:
            await up.send((index, analyze(split, aggregate)))
