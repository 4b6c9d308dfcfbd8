"""What a run keeps of its nodes, so that those of a lost host can go on elsewhere as if nothing had happened."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ..session.board import Envelope
from .wire import Posted

if TYPE_CHECKING:
    from .seats import Seat
    from .states import State

__all__ = ["Keeping"]


class Keeping:
    """The state of every node after its last call, and what has happened to each since: what came to it, what it sent
    and logged. A restored node gets what came once more, and what it sends and logs once more is dropped."""

    def __init__(self) -> None:
        self.dropped = 0
        self._states: dict[str, State] = {}
        self._came: defaultdict[str, list[Posted]] = defaultdict(list)
        self._count: defaultdict[str, int] = defaultdict(int)
        self._sent: defaultdict[str, set[tuple[Any, ...]]] = defaultdict(set)
        self._lines: defaultdict[str, int] = defaultdict(int)
        self._at: defaultdict[str, int] = defaultdict(int)

    def posted(self, envelope: Envelope) -> Posted:
        """An envelope on its way to a hosted node, numbered and kept."""
        receiver = envelope.receiver
        self._count[receiver] += 1
        posted = Posted(envelope, self._count[receiver])
        self._came[receiver].append(posted)
        return posted

    def is_new(self, envelope: Envelope) -> bool:
        """Whether a hosted node sends this for the first time."""
        if envelope.kind == "stored":  # the second one has an id of its own, and whoever is told that id finds it
            return True
        name = (envelope.receiver, envelope.kind, envelope.category, envelope.number)
        sent = self._sent[envelope.sender]
        if name in sent:
            self.dropped += 1
            return False
        sent.add(name)
        return True

    def is_new_line(self, node_id: str) -> bool:
        """Whether a hosted node logs its next line for the first time."""
        self._at[node_id] += 1
        if self._at[node_id] <= self._lines[node_id]:
            return False
        self._lines[node_id] = self._at[node_id]
        return True

    def keep(self, seat: Seat, state: State) -> None:
        """A call of a node has returned: what happened before is part of its state now."""
        node_id = seat.node_id
        before = self._states.get(node_id)
        if before is not None:
            for digest in state.digests:
                if digest not in state.buffers:
                    state.buffers[digest] = before.buffers[digest]
        self._states[node_id] = state
        self._came[node_id] = [posted for posted in self._came[node_id] if posted.number > state.accepted]
        self._sent[node_id].clear()
        self._lines[node_id] = self._at[node_id] = 0

    def restored(self, node_id: str) -> tuple[State | None, list[Posted]]:
        """What a node goes on from: its state, and what has come since. None where it was not made yet."""
        self._at[node_id] = 0
        return self._states.get(node_id), list(self._came[node_id])
