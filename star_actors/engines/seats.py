"""A seat: where one node lives in the process that hosts it, with its instance, its data and its thread."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from contextvars import Context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConfigurationError
from ..isolation import ATOMIC, Broadcast, moved, nbytes_of
from ..messages import Contribution

if TYPE_CHECKING:
    from ..checks import NodeChecks
    from ..nodes import StarAggregator, StarAnalyzer
    from .lanes import Lane

__all__ = ["Seat"]


class Seat:
    """One node: its class and kwargs, and once constructed its instance.

    The methods are the kinds of calls; each runs user code, on the node's thread, in the node's own context. `guard`
    is passed what the node computed, and gives what may leave it; `secretive` says that this node computes exact values
    that noise protects. `checks` looks at the first rounds, and is None afterwards.
    """

    __slots__ = (
        "checks",
        "cls",
        "context",
        "data",
        "flame",
        "guard",
        "kwargs",
        "lane",
        "moved_in",
        "node",
        "node_id",
        "position",
        "role",
        "round",
        "seconds",
        "secretive",
        "seed",
        "waited",
    )

    def __init__(
        self,
        position: int,
        node_id: str,
        role: Literal["default", "aggregator"],
        cls: type[StarAnalyzer] | type[StarAggregator],
        kwargs: Mapping[str, Any],
        data: Any,
        context: Context,
        seed: int | None,
    ) -> None:
        self.position = position
        self.node_id = node_id
        self.role: Literal["default", "aggregator"] = role
        self.cls = cls
        self.kwargs = kwargs
        self.data = data
        self.context = context
        self.seed = seed
        self.flame: Any = None
        self.guard: Callable[[int, Any], Any] | None = None
        self.secretive = False
        self.checks: NodeChecks | None = None
        self.node: Any = None
        self.lane: Lane | None = None
        self.moved_in: int | None = None
        self.round: int | None = None
        self.seconds = 0.0
        self.waited = 0.0

    def move_to(self, lane: Lane, round: int | None) -> None:
        """Make `lane` this node's thread for good; `round` is None while nothing of it has run anywhere."""
        self.lane = lane
        self.moved_in = round

    def construct(self, round: int | None, argument: None) -> None:
        """Make the user's object."""
        self.round = round
        self._sow()
        checks = self.checks
        if checks is not None:
            checks.begin(round)
        node = self.cls(flame=self.flame, **self.kwargs)
        if checks is not None:
            checks.end()
        if not hasattr(node, "num_iterations"):
            raise ConfigurationError(
                f"{self.cls.__name__}.__init__ did not call super().__init__(flame), so the node has no id, role or "
                "flame: call it first"
            )
        self.node = node

    def analyze(self, round: int, aggregate: Any) -> Any:
        """Run `analysis_method`; gives a Contribution whose value is the receiver's own."""
        node = self.node
        self.round = node.num_iterations = round
        if self.seed is not None:
            self._sow()
        if type(aggregate) is Broadcast:
            aggregate = aggregate.take()
        if round:
            node.latest_result = aggregate
        checks = self.checks
        if checks is not None:
            checks.begin(round)
        value = node.analysis_method(self.data, aggregate)
        if checks is not None:
            checks.end()
        if type(value) in ATOMIC and self.guard is None:
            node.latest_result = value
            if checks is not None:
                checks.left(value)
            return Contribution(self.node_id, round, value, nbytes_of(value))
        held = [value]
        del value  # only the list holds it now, where `moved` can see that
        return self._contribution(held)

    def aggregate(self, round: int, contributions: list[Any]) -> Any:
        """Run `aggregation_method`; gives the aggregate itself, which stays this node's own."""
        node = self.node
        self.round = node.num_iterations = round
        if self.seed is not None:
            self._sow()
        checks = self.checks
        if checks is not None:
            checks.begin(round, contributions)
        result = node.aggregation_method(contributions)
        if checks is not None:
            checks.end()
            if type(result) is not CoroutineType:
                checks.aggregated(contributions, result)
        if self.guard is not None:
            return self._guard_async(result) if type(result) is CoroutineType else self.guard(round, result)
        return result

    def converge(self, round: int, result: Any) -> Any:
        """Run `has_converged` on this and the last aggregate, and remember this one."""
        node = self.node
        if result is node.latest_result and round and type(result) not in ATOMIC:
            self.flame._find(
                "same-object",
                "aggregation_method returns the same object again, edited in place: has_converged finds "
                "`last_result is result`, and no change",
                "return a new object in every round, e.g. a copy",
            )
        verdict = node.has_converged(result, node.latest_result)
        if type(verdict) is CoroutineType:
            return self._converge_async(verdict, result)
        node.latest_result = result
        return self._truth(verdict)

    def release(self, round: int, function: Callable[[], Any]) -> Any:
        """Release the result where this node's code runs: encoding calls user code too."""
        return function()

    def _contribution(self, held: list[Any]) -> Any:
        kind = type(held[0])
        if kind is CoroutineType:
            return self._contribution_async(held[0])
        assert self.round is not None
        if self.guard is not None:
            held[0] = self.guard(self.round, held[0])
            kind = type(held[0])
        if self.checks is not None:
            self.checks.left(held[0])
        if kind in ATOMIC:
            self.node.latest_result = held[0]
            return Contribution(self.node_id, self.round, held[0], nbytes_of(held[0]))
        return Contribution(self.node_id, self.round, *moved(held))

    async def _contribution_async(self, body: Any) -> Any:
        self._sow()  # again: since it was made, others may have drawn
        return self._contribution([await body])

    async def _guard_async(self, body: Any) -> Any:
        assert self.guard is not None and self.round is not None
        self._sow()
        return self.guard(self.round, await body)

    async def _converge_async(self, body: Any, result: Any) -> bool:
        self._sow()
        verdict = await body
        self.node.latest_result = result
        return self._truth(verdict)

    def _truth(self, verdict: Any) -> bool:
        try:
            return bool(verdict)
        except ValueError as error:  # an array or a table, which has many
            raise TypeError(
                f"has_converged answers with type {type(verdict).__name__} ({error}): True or False is wanted, as "
                "np.allclose(result, last_result) or bool((...).all()) gives it"
            ) from error

    def _sow(self) -> None:
        """Seed the global generators for this node and round."""
        if self.seed is None:
            return
        number = random.Random(f"{self.seed}/{self.node_id}/{self.round}").getrandbits(32)
        random.seed(number)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed(number)
