"""The protocol that the two actor loops speak. The tester and the platform each answer to it in their own way."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from .messages import Aggregate, Contribution, Finished

__all__ = ["AggregatorExchange", "AnalyzerExchange"]


class AnalyzerExchange(Protocol):
    """What an analyzer's loop needs: its own methods run somewhere, its messages carried."""

    def ready(self) -> Awaitable[None]:
        """Construct the user's analyzer and wait until the aggregator can be reached."""
        ...

    def load(self) -> Awaitable[None]:
        """Fetch this node's data; it is one object for the whole run."""
        ...

    def analyze(self, round: int, aggregate: Any, /) -> Awaitable[Contribution]:
        """Run `analysis_method` on the data and the last aggregate; raise NodeError where it raises."""
        ...

    def contribute(self, contribution: Contribution) -> Awaitable[Aggregate | Finished]:
        """Send this round's contribution to the aggregator, and wait for its answer: the aggregate that opens the next
        round, or the end."""
        ...


class AggregatorExchange(Protocol):
    """What the aggregator's loop needs."""

    def ready(self) -> Awaitable[None]:
        """Construct the user's aggregator and wait until every analyzer can be reached."""
        ...

    def receive(self) -> Awaitable[list[Contribution]]:
        """Wait for contributions, and give all that have come, in order of arrival."""
        ...

    def aggregate(self, round: int, contributions: list[Any]) -> Awaitable[Any]:
        """Run `aggregation_method` on contributions in the order of the nodes."""
        ...

    def converged(self, round: int, result: Any) -> Awaitable[bool]:
        """Run `has_converged` on this and the last aggregate; True ends the run."""
        ...

    def send(self, aggregate: Aggregate) -> Awaitable[None]:
        """Send the aggregate to every analyzer, which opens the next round."""
        ...

    def submit(self, result: Any) -> Awaitable[None]:
        """Release the final result: privacy, encoding, delivery."""
        ...

    def finish(self, round: int) -> Awaitable[None]:
        """Tell every analyzer that the run is over."""
        ...
