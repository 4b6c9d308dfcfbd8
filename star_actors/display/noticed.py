"""What a run noticed, with what many nodes share said once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from star_actors.findings import Finding

__all__ = ["Noticed", "grouped"]

_MOST = 50
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Noticed:
    """Findings that say the same: `where` names nodes, the first round, and the path in the object concerned."""

    kind: str
    where: str
    message: str
    advice: str


def grouped(findings: Sequence[Finding]) -> tuple[list[Noticed], int]:
    """Findings by what they say, in order of appearance; and how many more groups there are than the first 50."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.kind, finding.message, finding.advice), []).append(finding)
    shown = [Noticed(kind, _where(of), message, advice) for (kind, message, advice), of in groups.items()]
    return shown[:_MOST], max(0, len(shown) - _MOST)


def _where(findings: list[Finding]) -> str:
    nodes = list(dict.fromkeys(finding.node_id for finding in findings if finding.node_id is not None))
    rounds = [finding.round for finding in findings if finding.round is not None]
    paths = list(dict.fromkeys(finding.path for finding in findings if finding.path is not None))
    parts = _some(nodes)
    if rounds:
        parts.append(f"round {rounds[0]}" if len(findings) == 1 else f"from round {min(rounds)}")
    return ", ".join(parts + _some(paths))


def _some(names: list[str]) -> list[str]:
    more = len(names) - _NAMED
    return names if more <= 0 else [*names[:_NAMED], f"and {more} more"]
