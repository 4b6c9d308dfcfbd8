"""The guide's complete example: federated averaging over two sites, six rounds, 5.46875 at the end.

Run it with `python examples/quickstart.py`. It needs nothing beyond star_actors itself.
"""

from typing import Any

from flame.star import StarAggregator, StarAnalyzer, StarModelTester


class MyAnalyzer(StarAnalyzer):
    """Computes the local average and moves it towards the global one."""

    def __init__(self, flame: Any) -> None:
        super().__init__(flame)

    def analysis_method(self, data: list[int], aggregator_results: float | None) -> float:
        """The local average; from the second round on, adjusted by the last global average."""
        self.flame.flame_log(f"\tAggregator results in MyAnalyzer: {aggregator_results}", log_type="debug")

        local_avg = sum(data) / len(data)
        analysis_result = local_avg
        if aggregator_results is not None:
            analysis_result = (local_avg + aggregator_results) / 2 + 0.5

        self.flame.flame_log(f"MyAnalysis result ({self.id}): {analysis_result}", log_type="notice")
        return analysis_result


class MyAggregator(StarAggregator):
    """Averages what the analyzers send, and says when it is enough."""

    def __init__(self, flame: Any) -> None:
        super().__init__(flame)

    def aggregation_method(self, analysis_results: list[float]) -> float:
        """The average of all analyzers' results."""
        self.flame.flame_log(f"\tAnalysis results in MyAggregator: {analysis_results}", log_type="notice")
        result = sum(analysis_results) / len(analysis_results)
        self.flame.flame_log(f"MyAggregator result ({self.id}): {result}", log_type="notice")
        return result

    def has_converged(self, result: float, last_result: float | None) -> bool:
        """Stop after iteration 5; a real analysis would look at the change from last_result to result."""
        self.flame.flame_log(f"\tLast result: {last_result}, Current result: {result}", log_type="notice")
        self.flame.flame_log(f"\tChecking convergence at iteration {self.num_iterations}", log_type="notice")
        return self.num_iterations >= 5


if __name__ == "__main__":
    # Each list plays the data of one site.
    data_1 = [1, 2, 3, 4]
    data_2 = [5, 6, 7, 8]

    StarModelTester(
        data_splits=[data_1, data_2],
        analyzer=MyAnalyzer,
        aggregator=MyAggregator,
        data_type="s3",
        simple_analysis=False,
    )
