"""What a run and its hosts tell each other: frozen, tagged structs in one union, told apart with `match`.

A value of a user's is in a Parcel, or as it is where it is atomic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ..findings import Finding
from ..report import Log
from ..session.board import Envelope
from .lanes import CallKind
from .parcels import Parcel

if TYPE_CHECKING:
    from ..checks import CheckPlan

__all__ = [
    "Failed",
    "Found",
    "FromHost",
    "GiveUp",
    "Logged",
    "Outcome",
    "Posted",
    "Printed",
    "Progressed",
    "Released",
    "Request",
    "Settle",
    "Start",
    "ToHost",
    "Unready",
    "Waiting",
]


class Start(msgspec.Struct, frozen=True, tag=True):
    """The first message to a host. `classes` is the luggage that `scripts.unpack` opens, `origin` the process that it
    is from."""

    classes: bytes
    origin: str
    sources: dict[str, list[str]]
    participants: list[tuple[str, str]]
    data_type: str
    seed: int | None
    max_threads: int
    cores: int
    storage_dir: str | None
    keeps_state: bool
    checks: CheckPlan | None = None


class Settle(msgspec.Struct, frozen=True, tag=True):
    """A node takes its seat in the host; `luggage` holds its data and keyword arguments, `state` what it was when it
    was last heard of elsewhere."""

    position: int
    node_id: str
    role: Literal["default", "aggregator"]
    secretive: bool
    luggage: list[Parcel]
    state: Any = None


class Request(msgspec.Struct, frozen=True, tag=True):
    """One call for each of some nodes."""

    positions: list[int]
    kind: CallKind
    round: int | None
    argument: Any


class Posted(msgspec.Struct, frozen=True, tag=True):
    """An envelope on its way; `number` counts what was carried to this receiver."""

    envelope: Envelope
    number: int = 0


class GiveUp(msgspec.Struct, frozen=True, tag=True):
    """What a node waits for can never come."""

    node_id: str
    text: str


class Released(msgspec.Struct, frozen=True, tag=True):
    """The receiver has let go of shared memory; between the two ends of a channel only."""

    numbers: list[int]


class Outcome(msgspec.Struct, frozen=True, tag=True):
    """A call has returned. `moved` is the round in which the node got a thread of its own in its host."""

    position: int
    value: Any
    nbytes: int
    seconds: float
    moved: int | None = None
    state: Any = None


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A call has failed. `error` is the pickled error that ends the run and `cause` its cause, for which `text` stands
    in where it cannot be unpickled; `traceback` are the user's own frames."""

    position: int
    error: bytes
    cause: bytes
    text: str
    traceback: str


class Logged(msgspec.Struct, frozen=True, tag=True):
    """A node has logged a line, or a part that continues its last one."""

    log: Log
    append: bool


class Found(msgspec.Struct, frozen=True, tag=True):
    """A finding."""

    finding: Finding


class Progressed(msgspec.Struct, frozen=True, tag=True):
    """A node has set its progress."""

    node_id: str
    progress: int


class Printed(msgspec.Struct, frozen=True, tag=True):
    """Code has printed something."""

    stream: Literal["stdout", "stderr"]
    text: str


class Waiting(msgspec.Struct, frozen=True, tag=True):
    """Every call of the host waits for a message, after so many messages had come; `waits` are node ids and what they
    wait for."""

    received: int
    waits: list[tuple[str, str]]


class Unready(msgspec.Struct, frozen=True, tag=True):
    """The host itself cannot go on."""

    text: str


ToHost = Start | Settle | Request | Posted | GiveUp | Released
FromHost = Outcome | Failed | Posted | Logged | Found | Progressed | Printed | Waiting | Unready | Released
