"""The protocol that the two actor loops speak. The tester and the platform each answer to it in their own way."""

from __future__ import annotations

from typing import Any, Protocol

from .messages import Aggregate, Contribution, Finished

__all__ = ["AggregatorExchange", "AnalyzerExchange"]


class AnalyzerExchange(Protocol):
    """What an analyzer's loop needs: its own methods run somewhere, its messages carried."""

    async def ready(self) -> None:
        """Construct the user's analyzer and wait until the aggregator can be reached."""

    async def load(self) -> None:
        """Fetch this node's data; it is one object for the whole run."""

    async def analyze(self, round: int, aggregate: Any) -> Any:
        """Run `analysis_method` on the data and the last aggregate; raise NodeError where it raises."""

    async def send(self, round: int, value: Any) -> None:
        """Send this round's contribution to the aggregator."""

    async def receive(self) -> Aggregate | Finished:
        """Wait for the aggregator's answer: the aggregate that opens the next round, or the end."""


class AggregatorExchange(Protocol):
    """What the aggregator's loop needs."""

    async def ready(self) -> None:
        """Construct the user's aggregator and wait until every analyzer can be reached."""

    async def receive(self) -> Contribution:
        """Wait for the next contribution, in order of arrival."""

    async def aggregate(self, round: int, contributions: list[Any]) -> Any:
        """Run `aggregation_method` on contributions in the order of the nodes."""

    async def converged(self, round: int, result: Any) -> bool:
        """Run `has_converged` on this and the last aggregate; True ends the run."""

    async def send(self, aggregate: Aggregate) -> None:
        """Send the aggregate to every analyzer, which opens the next round."""

    async def submit(self, result: Any) -> None:
        """Release the final result: privacy, encoding, delivery."""

    async def finish(self, round: int) -> None:
        """Tell every analyzer that the run is over."""
