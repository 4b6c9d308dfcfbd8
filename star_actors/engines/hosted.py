"""What is different about a node that lives in a host: its data arrive, and what it computes and sends is packed."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..isolation import ATOMIC, Uncopyable
from ..messages import Contribution
from ..session.board import Board, Envelope
from .parcels import Hold, Parcel, pack
from .seats import Seat
from .wire import Settle

if TYPE_CHECKING:
    from .states import State

__all__ = ["HostedSeat", "RoutedBoard", "opened", "packed"]


class HostedSeat(Seat):
    """A node's seat in a host: its data come in a parcel, and what it computes leaves in one."""

    __slots__ = ("begin_keeping", "hold", "keep", "luggage", "state")

    def __init__(self, settle: Settle, cls: Any, seed: int | None, hold: Hold) -> None:
        context = contextvars.copy_context()
        super().__init__(settle.position, settle.node_id, settle.role, cls, {}, None, context, seed)
        self.secretive = settle.secretive
        self.luggage = settle.luggage
        self.hold = hold
        self.begin_keeping: Callable[[], None] | None = None
        self.keep: Callable[[], State] | None = None
        self.state: State | None = None

    def open_luggage(self) -> None:
        """Take the node's data and keyword arguments out."""
        luggage, self.luggage = self.luggage, []
        try:
            self.data, self.kwargs = (parcel.take(only=True) for parcel in luggage)
        except Uncopyable as error:
            raise ConfigurationError(
                f"the data or keyword arguments of {self.node_id} were sent to its process and cannot be unpickled "
                f"there: {type(error.cause).__name__}: {error.cause}. What they need must be importable there"
            ) from error.cause
        if self.begin_keeping is not None:
            self.begin_keeping()

    def construct(self, round: int | None, argument: None) -> None:
        self.open_luggage()
        super().construct(round, argument)
        self._kept(None)

    def analyze(self, round: int, aggregate: Any) -> Any:
        outcome = super().analyze(round, aggregate.take() if type(aggregate) is Parcel else aggregate)
        return self._kept_async(outcome) if type(outcome) is CoroutineType else self._kept(outcome)

    def _kept(self, outcome: Any) -> Any:
        if self.keep is not None:
            self.state = self.keep()
        return outcome

    async def _kept_async(self, body: Any) -> Any:
        return self._kept(await body)

    def _contribution(self, held: list[Any]) -> Any:
        if type(held[0]) in ATOMIC or type(held[0]) is CoroutineType:
            return super()._contribution(held)
        if self.checks is not None:
            self.checks.left(held[0])
        parcel = pack(held.pop(), self.hold)
        assert self.round is not None
        return Contribution(self.node_id, self.round, parcel, parcel.nbytes)


class RoutedBoard(Board):
    """Sends what nodes of this host write to each other by way of the run too, which keeps it for nodes that are lost;
    what a node stores for itself is part of its state."""

    def deliver(self, envelope: Envelope) -> None:
        if envelope.receiver == envelope.sender:
            super().deliver(envelope)
        else:
            assert self.route is not None
            self.route(envelope)


def packed(envelope: Envelope, hold: Hold) -> Envelope:
    """An envelope for another process. Raises Uncopyable."""
    payload = envelope.payload
    if type(payload) not in ATOMIC and type(payload) is not Parcel:
        payload = pack(payload, hold)
    return Envelope(
        envelope.sender, envelope.receiver, envelope.kind, envelope.category, envelope.id, envelope.number, payload
    )


def opened(envelope: Envelope) -> Envelope:
    """An envelope that has come from another process. Raises Uncopyable."""
    if type(envelope.payload) is Parcel:
        envelope.payload = envelope.payload.take(only=True)
    return envelope
