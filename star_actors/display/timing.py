"""Where the time went: each node's seconds over a run, and who was the slowest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from star_actors.report import Report, Round

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Bucket", "NodeTimes", "node_times"]

_EACH = 12


@dataclass(slots=True)
class Bucket:
    """One round, or a few that stand as one: the extremes of what the nodes took, in seconds.

    `each` holds one number a node where there are few nodes, and is empty where there are many.
    """

    round: int
    fastest: float
    median: float
    slowest: float
    slowest_node: str
    straggler: float
    each: list[float] = field(default_factory=list)


@dataclass(slots=True)
class NodeTimes:
    """Seconds by node over the rounds that were kept: `total`, in how many rounds it was the `slowest`, and the
    `straggler`, the node with the largest total. `rounds` counts what was kept; each of the `buckets` stands for up
    to `merged` rounds."""

    ids: list[str]
    total: list[float]
    slowest: list[int]
    straggler: int
    rounds: int
    buckets: list[Bucket]
    merged: int = 1


def node_times(report: Report, limit: int) -> NodeTimes | None:
    """Add up node times, and put the rounds into at most `limit` buckets; None where no times were kept."""
    import numpy as np

    ids = [node.id for node in report.nodes]
    kept = [r for r in report.rounds if ids and len(r.node_seconds) == len(ids)]
    if not kept or list(kept[-1].node_seconds) != ids:
        return None
    total = np.zeros(len(ids))
    slowest = np.zeros(len(ids), int)
    for round in kept:
        row = _row(round)
        total += row
        slowest[row.argmax()] += 1
    straggler = int(total.argmax())
    merged = -(-len(kept) // limit)
    buckets = [_bucket(kept[i : i + merged], ids, straggler) for i in range(0, len(kept), merged)]
    return NodeTimes(ids, total.tolist(), slowest.tolist(), straggler, len(kept), buckets, merged)


def _bucket(rounds: Sequence[Round], ids: list[str], straggler: int) -> Bucket:
    import numpy as np

    rows = np.array([_row(round) for round in rounds])
    peak = int(rows.max(axis=1).argmax())
    return Bucket(
        round=rounds[peak].number,
        fastest=float(rows.min()),
        median=float(np.median(rows)),
        slowest=float(rows.max()),
        slowest_node=ids[int(rows[peak].argmax())],
        straggler=float(rows[:, straggler].max()),
        each=rows.max(axis=0).tolist() if len(ids) <= _EACH else [],
    )


def _row(round: Round) -> NDArray[np.float64]:
    import numpy as np

    return np.fromiter(round.node_seconds.values(), np.float64, len(round.node_seconds))
