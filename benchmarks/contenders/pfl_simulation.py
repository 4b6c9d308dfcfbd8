"""pfl: its simulated backend, where a round is a central iteration over a cohort of all users."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.measurement import Stopwatch
from benchmarks.workloads import Workload

from .base import Contender

__all__ = ["Pfl"]


class Pfl(Contender):
    """Sequential in one process; statistics are summed as they come, so results differ in the last bits."""

    name = "pfl"
    title = "pfl's simulation"
    kind = "framework"
    needs = "pfl"
    install = "pfl>=0.4"
    exact = False
    sequential = True

    def rounds(self, workload: Workload) -> int:
        if workload.name == "W4":
            return 2
        return max(3, workload.rounds // 20) if workload.name == "W1" else workload.rounds

    def drive(self, workload: Workload, stopwatch: Stopwatch) -> Any:
        import numpy as np

        numpy_ops = importlib.import_module("pfl.internal.ops.numpy_ops")
        importlib.import_module("pfl.internal.ops.selector").set_framework_module(numpy_ops)
        base: Any = importlib.import_module("pfl.algorithm.base")
        backend = importlib.import_module("pfl.aggregate.simulate").SimulatedBackend
        context = importlib.import_module("pfl.context").CentralContext
        data: Any = importlib.import_module("pfl.data.dataset")
        federated = importlib.import_module("pfl.data.federated_dataset").FederatedDataset
        hyperparam: Any = importlib.import_module("pfl.hyperparam.base")
        metrics: Any = importlib.import_module("pfl.metrics").Metrics
        population: Any = importlib.import_module("pfl.common_types").Population
        sampler: Any = importlib.import_module("pfl.data.sampling").get_user_sampler
        statistics: Any = importlib.import_module("pfl.stats").MappedVectorStatistics

        class Aggregate:
            value: Any = None

        class Algorithm(base.FederatedAlgorithm):  # type: ignore[misc]
            def get_next_central_contexts(
                self, model: Any, iteration: int, params: Any, train: Any, evaluate: Any = None
            ) -> Any:
                if iteration == workload.rounds:
                    return None, model, metrics()
                round_context = context(
                    current_central_iteration=iteration,
                    do_evaluation=False,
                    cohort_size=workload.n,
                    population=population.TRAIN,
                    algorithm_params=params,
                    model_train_params=train,
                    seed=self._get_seed(),
                )
                return (round_context,), model, metrics()

            def simulate_one_user(self, model: Any, user_dataset: Any, central_context: Any) -> Any:
                value = workload.analyze(user_dataset.metadata["split"], model.value)
                return statistics({"value": np.asarray(value)}), metrics()

            def process_aggregated_statistics(
                self, central_context: Any, aggregate_metrics: Any, model: Any, stats: Any
            ) -> Any:
                mean = stats["value"] / workload.n
                model.value = workload.combine([mean if mean.ndim else float(mean)])
                stopwatch.lap(model.value)
                return model, metrics()

        def user_data(user: str) -> Any:
            # Its own data must be arrays; the splits of some workloads are not.
            return data.Dataset((np.zeros(1),), user_id=user, metadata={"split": splits[user]})

        users = [str(index) for index in range(workload.n)]
        splits = dict(zip(users, workload.splits(), strict=True))
        dataset = federated(user_data, sampler("minimize_reuse", users))
        model = Algorithm().run(
            hyperparam.AlgorithmHyperParams(),
            backend(training_data=dataset, val_data=dataset),
            Aggregate(),
            hyperparam.ModelHyperParams(),
            send_metrics_to_platform=False,
        )
        return model.value
