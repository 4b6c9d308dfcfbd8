"""Flower's simulation: a ServerApp that drives the rounds, a ClientApp that is the node, virtual nodes on Ray."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, ClassVar

from benchmarks.measurement import Stopwatch
from benchmarks.workloads import Workload

from .base import Contender

__all__ = ["Flower"]


class Flower(Contender):
    """`run_simulation` with as many virtual nodes as analyzers and one Ray worker a core, as it does by default."""

    name = "flower"
    title = "Flower's simulation"
    kind = "framework"
    needs = "flwr"
    install = "flwr[simulation]>=1.25"
    heavy = True
    environment: ClassVar[Mapping[str, str]] = {
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
    }

    def available(self) -> str | None:
        missing = super().available()
        if missing is None and importlib.util.find_spec("ray") is None:
            missing = f"{self.title} needs Ray: pip install '{self.install}'"
        return missing

    def unfit(self, workload: Workload) -> str | None:
        if workload.name == "W6" or workload.n > 1000:
            return f"a round with {workload.n} nodes takes minutes"
        return None

    def rounds(self, workload: Workload) -> int:
        return 8 if workload.n <= 100 else 3

    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        app: Any = importlib.import_module("flwr.app")
        server_app = importlib.import_module("flwr.serverapp").ServerApp()
        client_app = importlib.import_module("flwr.clientapp").ClientApp()
        run_simulation = importlib.import_module("flwr.simulation").run_simulation
        last: list[Any] = []

        @client_app.query()  # type: ignore[untyped-decorator]
        def analyze(message: Any, context: Any) -> Any:
            index = int(context.node_config["partition-id"])
            value = workload.analyze(_split(workload, index), _unpacked(message.content))
            return app.Message(_packed(app, value, index), reply_to=message)

        @server_app.main()  # type: ignore[untyped-decorator]
        def aggregate_rounds(grid: Any, context: Any) -> None:
            nodes: list[int] = []
            while len(nodes) < workload.n:
                nodes = list(grid.get_node_ids())
            aggregate = None
            for _ in range(workload.rounds):
                content = _packed(app, aggregate, 0)
                messages = [app.Message(content, node, "query") for node in nodes]
                contributions: list[Any] = [None] * workload.n
                for reply in grid.send_and_receive(messages):
                    if reply.has_error():
                        raise RuntimeError(f"a client failed: {reply.error}")
                    contributions[reply.content["node"]["index"]] = _unpacked(reply.content)
                aggregate = workload.combine(contributions)
                stopwatch.lap(aggregate)
            last.append(aggregate)

        run_simulation(
            server_app=server_app,
            client_app=client_app,
            num_supernodes=workload.n,
            backend_config={
                "init_args": {"num_cpus": os.cpu_count(), "include_dashboard": False, "log_to_driver": False},
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )
        return last[0]


@functools.lru_cache(maxsize=1000)
def _split(workload: Workload, index: int) -> Any:
    # A client is made anew for every message; a real one would load its data, here it is kept in the worker.
    return workload.split(index)


def _packed(app: Any, value: Any, index: int) -> Any:
    content = {"node": app.MetricRecord({"index": index})}
    if hasattr(value, "shape"):
        content["array"] = app.ArrayRecord([value])
    elif value is not None:
        content["number"] = app.MetricRecord({"value": value})
    return app.RecordDict(content)


def _unpacked(content: Any) -> Any:
    if "array" in content:
        return content["array"].to_numpy_ndarrays()[0]
    return content["number"]["value"] if "number" in content else None
