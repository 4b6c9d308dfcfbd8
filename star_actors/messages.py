"""What travels between the actors: frozen, tagged structs in one union, told apart with `match`."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Aggregate", "Contribution", "Finished", "Message"]


class Contribution(msgspec.Struct, frozen=True, tag=True, gc=False):
    """What an analyzer sends up: its result of one round."""

    sender: str
    round: int
    value: Any
    nbytes: int = 0


class Aggregate(msgspec.Struct, frozen=True, tag=True, gc=False):
    """What the aggregator sends down: the aggregate of one round, which opens the next."""

    round: int
    value: Any


class Finished(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The run is over; nothing follows."""

    round: int


Message = Contribution | Aggregate | Finished
