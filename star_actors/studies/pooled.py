"""What does federating cost me? The same analysis on all rows at one node, beside the federated run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from star_actors.config import NodePlan, RunConfig, configure
from star_actors.display.formats import number
from star_actors.display.values import Numbers
from star_actors.errors import ConfigurationError
from star_actors.nodes import StarAggregator, StarAnalyzer
from star_actors.options import is_number
from star_actors.report import Report

from . import table
from .exact import check_may_be_exact, exact_result, without_noise
from .records import Pool, pool_splits

__all__ = ["Comparison", "Difference", "compare_pooled"]

_SHOWN = 30


@dataclass(frozen=True)
class Difference:
    """One number of the result: where it stands, what it is federated and pooled, and how far these lie apart.

    `relative` is the absolute difference divided by the size of the pooled number; infinite where that is 0 and the
    federated one is not.
    """

    path: str
    federated: float
    pooled: float
    absolute: float
    relative: float


@dataclass(frozen=True)
class Comparison:
    """The result of the federated run beside that of the same analysis on all rows at one node.

    `differences` holds every number that both have; `only_federated` and `only_pooled` name those that one alone has.
    `federated` and `pooled` are the reports of the two runs.
    """

    differences: tuple[Difference, ...]
    only_federated: tuple[str, ...]
    only_pooled: tuple[str, ...]
    federated: Report
    pooled: Report
    rtol: float
    atol: float

    @property
    def max_absolute(self) -> float:
        """The largest absolute difference; NaN where one of two numbers is NaN."""
        return _largest([difference.absolute for difference in self.differences])

    @property
    def max_relative(self) -> float:
        """The largest relative difference; NaN where one of two numbers is NaN."""
        return _largest([difference.relative for difference in self.differences])

    def equal(self, rtol: float | None = None, atol: float | None = None) -> bool:
        """Whether both have the same numbers, each within `atol + rtol * abs(pooled)`.

        None stands for the tolerance that the comparison was made with.
        """
        rtol = self.rtol if rtol is None else _tolerance("rtol", rtol)
        atol = self.atol if atol is None else _tolerance("atol", atol)
        if self.only_federated or self.only_pooled:
            return False
        return all(_within(difference, rtol, atol) for difference in self.differences)

    def __str__(self) -> str:
        return table.as_text(*self._table())

    def _repr_html_(self) -> str:
        return table.as_html(*self._table())

    def _table(self) -> tuple[str, list[str], list[list[str]], list[str]]:
        verdict = "equal" if self.equal() else "DIFFERENT"
        title = (
            f"federated and pooled results are {verdict} (rtol={self.rtol:g}, atol={self.atol:g}); largest relative "
            f"difference {self.max_relative:.3g}"
        )
        shown: Sequence[Difference] = self.differences
        notes = []
        if len(shown) > _SHOWN:
            shown = sorted(shown, key=lambda difference: -_rank(difference.relative))[:_SHOWN]
            notes.append(f"the {_SHOWN} largest of {len(self.differences):,} differences are shown")
        rows = [
            [d.path or "result", number(d.federated), number(d.pooled), f"{d.absolute:.3g}", f"{d.relative:.3g}"]
            for d in shown
        ]
        for where, paths in (("federated", self.only_federated), ("pooled", self.only_pooled)):
            if paths:
                more = f" and {len(paths) - 5:,} more" if len(paths) > 5 else ""
                notes.append(f"only in the {where} result: {', '.join(path or 'result' for path in paths[:5])}{more}")
        return title, ["number", "federated", "pooled", "absolute", "relative"], rows, notes


def compare_pooled(
    data_splits: Sequence[Any],
    analyzer: type[StarAnalyzer],
    aggregator: type[StarAggregator],
    data_type: Literal["fhir", "s3"],
    query: str | list[str] | None = None,
    simple_analysis: bool = True,
    *,
    pool: Pool | None = None,
    rtol: float = 1e-9,
    atol: float = 0.0,
    **arguments: Any,
) -> Comparison:
    """Run an analysis on its splits, and on all their records at one node, and compare the numbers of the results.

    Arguments:
        data_splits, analyzer, ..., arguments: as StarModelTester takes them. Nothing is printed and no file is
            written. With privacy, what is compared is before the noise: `Privacy(..., keep_exact=True)` is wanted.
        pool: a function from the list of the analyzers' splits to one split. Without it lists, arrays and tables are
            concatenated, tuples and dicts of these in step; of FLAME's shapes, CSV files by their columns and bundles
            by their entries, those with the same name or query together.
        rtol, atol: how far a federated number may be from the pooled one: `atol + rtol * abs(pooled)`.

    An aggregator that holds a split keeps it. Raises ConfigurationError where the splits cannot be pooled or a result
    holds no number, and what the runs raise.
    """
    rtol, atol = _tolerance("rtol", rtol), _tolerance("atol", atol)
    config = configure(data_splits, analyzer, aggregator, data_type, query, simple_analysis, **arguments)
    check_may_be_exact(config, "compare_pooled")
    one_node = _at_one_node(config, pool)
    federated, federated_report = exact_result(without_noise(config))
    pooled, pooled_report = exact_result(without_noise(one_node))
    mine, theirs = (_named(value, what) for value, what in ((federated, "federated"), (pooled, "pooled")))
    return Comparison(
        differences=tuple(_difference(path, mine[path], theirs[path]) for path in mine if path in theirs),
        only_federated=tuple(path for path in mine if path not in theirs),
        only_pooled=tuple(path for path in theirs if path not in mine),
        federated=federated_report,
        pooled=pooled_report,
        rtol=rtol,
        atol=atol,
    )


def _at_one_node(config: RunConfig, pool: Pool | None) -> RunConfig:
    splits = config.data_splits
    pooled = pool_splits([splits[node.split] for node in config.analyzers if node.split is not None], pool)
    (aggregator,) = (node for node in config.nodes if node.role == "aggregator")
    nodes = NodePlan("node_0", "default", 0), NodePlan("node_1", "aggregator", None if aggregator.split is None else 1)
    own = [] if aggregator.split is None else [splits[aggregator.split]]
    return replace(config, nodes=nodes, data_splits=[pooled, *own])


def _named(value: Any, what: str) -> dict[str, float]:
    numbers = Numbers(value)
    if not numbers.size:
        raise ConfigurationError(
            f"the {what} result is of type {type(value).__name__} and holds no number to compare; numbers, arrays, "
            "tables, or lists, tuples and dicts of these are wanted"
        )
    if numbers.truncated:
        raise ConfigurationError(
            f"the {what} result holds too many separate lists, arrays or numbers to name each; arrays are wanted"
        )
    return dict(numbers.named(numbers.size))


def _difference(path: str, federated: float, pooled: float) -> Difference:
    if federated == pooled or (math.isnan(federated) and math.isnan(pooled)):
        return Difference(path, federated, pooled, 0.0, 0.0)
    absolute = abs(federated - pooled)
    if math.isinf(pooled):
        return Difference(path, federated, pooled, absolute, absolute)
    return Difference(path, federated, pooled, absolute, absolute / abs(pooled) if pooled else absolute * math.inf)


def _within(difference: Difference, rtol: float, atol: float) -> bool:
    if difference.absolute == 0:
        return True
    return math.isfinite(difference.pooled) and difference.absolute <= atol + rtol * abs(difference.pooled)


def _largest(values: list[float]) -> float:
    return max(values, key=_rank, default=0.0)


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _tolerance(name: str, given: float) -> float:
    if not is_number(given) or not 0 <= given < math.inf:
        raise ConfigurationError(f"{name}={given!r} is given, a number from 0 is wanted")
    return float(given)
