"""What the nodes of a star write to each other on FLAME: the body of a message, made and read."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = ["CATEGORY", "Kind", "Letter", "body_of", "letter_of"]

Kind = Literal["hello", "contribution", "aggregate", "finished", "failed"]

CATEGORY: dict[Kind, str] = {
    # The SDK logs the first as a ready check, and marks whoever receives the last but one as finished.
    "hello": "ready_check",
    "contribution": "star_actors",
    "aggregate": "star_actors",
    "finished": "analysis_finished",
    "failed": "star_actors",
}
_KEY = "star_actors"


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who failed, where, and with what type of error; never its text, which may quote a patient's data."""

    node_id: str
    role: str
    round: int | None
    error: str


class Letter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message between the nodes of a star.

    `life` tells one start of the sender's process from the next. `stored` names, for each receiver, the object in
    FLAME's intermediate storage that carries the value: a message itself is JSON, of 2 MB at most, and is logged.
    """

    kind: Kind
    round: int
    life: str
    stored: dict[str, str] = {}
    failure: Failure | None = None


def body_of(letter: Letter) -> dict[str, Any]:
    """The body of a message that carries `letter`; a fresh dict, which the SDK adds to."""
    return {_KEY: msgspec.to_builtins(letter)}


def letter_of(body: dict[str, Any]) -> Letter | None:
    """The letter in a message's body; None where the message is somebody else's."""
    if _KEY not in body:
        return None
    try:
        return msgspec.convert(body[_KEY], Letter)
    except msgspec.ValidationError:
        return None
