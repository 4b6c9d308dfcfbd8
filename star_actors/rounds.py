"""Pure round logic: who has reported, in which order their contributions stand, when a run ends. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .messages import Contribution

__all__ = ["RoundBook", "ends_run"]


class RoundBook:
    """Collects the contributions of one round after the other.

    `record` takes them in any order of arrival; `contributions` gives them in the order of `node_ids`, so that sums
    of floats repeat bit for bit. A contribution of another round, a second one of the same node, or one of a node
    that is not in the list does not count, and leaves the book unchanged.
    """

    __slots__ = ("_missing", "_position", "_values", "round")

    def __init__(self, node_ids: Sequence[str]) -> None:
        if len(set(node_ids)) != len(node_ids):
            raise ValueError(f"node ids must be unique: {list(node_ids)}")
        self._position = {node_id: i for i, node_id in enumerate(node_ids)}
        self.round = -1
        self.open_next()

    def open_next(self) -> int:
        """Begin the next round and return its number; the first is 0."""
        self.round += 1
        self._missing = len(self._position)
        self._values: list[Any] = [_NOTHING] * self._missing
        return self.round

    def record(self, contributions: Iterable[Contribution]) -> int:
        """Take what has come; how many of them count."""
        values, before = self._values, self._missing
        for contribution in contributions:
            position = self._position.get(contribution.sender)
            if position is not None and contribution.round == self.round and values[position] is _NOTHING:
                values[position] = contribution.value
                self._missing -= 1
        return before - self._missing

    @property
    def complete(self) -> bool:
        """Whether every node has reported."""
        return not self._missing

    @property
    def missing(self) -> list[str]:
        """The nodes that have not reported, in order."""
        return [node_id for node_id, i in self._position.items() if self._values[i] is _NOTHING]

    def contributions(self) -> list[Any]:
        """The round's contributions in the order of the nodes; the caller's own list."""
        if self._missing:
            raise RuntimeError(f"round {self.round} still waits for {self.missing}")
        return self._values


class _Nothing:
    __slots__ = ()


_NOTHING = _Nothing()


def ends_run(round: int, converged: bool, *, simple_analysis: bool) -> bool:
    """Whether a run ends after `round`: a one-round analysis always, an iterative one once converged, never in 0.

    Round 0 has no earlier aggregate to compare with; FLAME's star asks there too and ignores the answer.
    """
    return simple_analysis or (converged and round > 0)
