"""What the checks of a run need to know of it; small, and sent to wherever nodes are hosted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from ..config import RunConfig

__all__ = ["LOOKED_AT", "CheckPlan", "plan_of"]

LOOKED_AT = 1_000
"""What so many nodes send is looked at, which takes about 25 microseconds for a small dict."""


class CheckPlan(msgspec.Struct, frozen=True):
    """`min_cell` and `permute` are the user's; `analyzers` are the ids in the order of the contributions.

    `seeded`: the run seeds the global generators itself. `noised`: contributions carry noise when they leave.
    `exact`: a finding may say by how much something changes. `returns`: exact aggregates leave the aggregator.
    """

    min_cell: int
    permute: bool
    analyzers: list[str]
    seeded: bool
    noised: bool
    exact: bool
    returns: bool


def plan_of(config: RunConfig) -> CheckPlan:
    """The plan for a run."""
    privacy = config.privacy
    return CheckPlan(
        min_cell=config.checks.min_cell,
        permute=config.checks.permute,
        analyzers=[node.id for node in config.analyzers],
        seeded=config.seed is not None,
        noised=privacy is not None and privacy.noise_at == "analyzer",
        exact=privacy is None or privacy.keep_exact,
        returns=privacy is None or (privacy.noise_at == "final" and not config.simple_analysis),
    )
