"""Small analyses that the tests of a run share."""

from __future__ import annotations

from typing import Any

from star_actors import Report, StarAggregator, StarAnalyzer
from star_actors.studies.quiet import run_quietly

__all__ = ["Average", "LocalMean", "aggregator", "analyzer", "report_of"]


class LocalMean(StarAnalyzer):
    """The guide's analyzer: the local mean, moved towards the last aggregate."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        mean = sum(data) / len(data)
        return mean if aggregator_results is None else (mean + aggregator_results) / 2 + 0.5


class Average(StarAggregator):
    """The guide's aggregator: converged once `num_iterations` is 5."""

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return sum(analysis_results) / len(analysis_results)

    def has_converged(self, result: Any, last_result: Any) -> bool:
        return self.num_iterations >= 5


def analyzer(method: Any, **more: Any) -> type[StarAnalyzer]:
    """An analyzer whose `analysis_method` is `method`."""
    return type("Probe", (LocalMean,), {"analysis_method": method, **more})


def aggregator(**methods: Any) -> type[StarAggregator]:
    """An aggregator with some methods replaced."""
    return type("Hub", (Average,), methods)


def report_of(splits: Any, analyzer: Any = LocalMean, aggregator: Any = Average, **options: Any) -> Report:
    """Run quietly; raises what the run ends with."""
    return run_quietly(splits, analyzer, aggregator, options.pop("data_type", "s3"), **options)
