"""What users subclass: StarAnalyzer and StarAggregator, with the attributes that FLAME's classes have."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .session import FlameSession

__all__ = ["StarAggregator", "StarAnalyzer"]


class _Node:
    """What both share.

    `id` names the node, `role` is "default" or "aggregator", `partner_node_ids` lists every other participant,
    `num_iterations` is the number of the round (from 0), `latest_result` the last aggregate, `flame` the session.
    """

    id: str
    role: Literal["default", "aggregator"]
    finished: bool
    latest_result: Any
    num_iterations: int
    flame: FlameSession

    def __init__(self, flame: FlameSession) -> None:
        self.flame = flame
        self.id = flame.get_id()
        self.role = flame.get_role()
        self.finished = False
        self.latest_result = None
        self.num_iterations = 0

    @cached_property
    def partner_node_ids(self) -> list[str]:
        """Every other participant; this node's own list. Made on first use: ten thousand nodes need none."""
        return self.flame.get_participant_ids()

    def node_finished(self) -> None:
        """Mark this node as done, as FLAME's star does at the end of a run."""
        self.finished = True


class StarAnalyzer(_Node):
    """Runs beside one site's data. Subclass it, call `super().__init__(flame)`, and write `analysis_method`."""

    def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
        """Analyse the local data; whatever is returned is sent to the aggregator.

        `data` is this node's split, the same object in every round. `aggregator_results` is the last aggregate,
        None in round 0. May be `def`, or `async def` (which FLAME's own star would not await).
        Source: the guide, Components, 1.
        """
        raise NotImplementedError(f"{type(self).__name__} has no analysis_method")


class StarAggregator(_Node):
    """Combines what the analyzers send. Subclass it, and write `aggregation_method` and `has_converged`."""

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        """Combine one contribution per analyzer, in the order of `data_splits`, into the aggregate.

        Source: the guide, Components, 2.
        """
        raise NotImplementedError(f"{type(self).__name__} has no aggregation_method")

    def has_converged(self, result: Any, last_result: Any) -> bool:
        """Whether the run may end: any truthy answer ends it, though never in round 0 of an iterative run.

        `last_result` is the aggregate of the round before, None in round 0. In a one-round analysis the answer is
        ignored, as on FLAME. Source: the guide, Components, 2.
        """
        return False
