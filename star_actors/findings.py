"""What a run noticed: things that pass here and would not, or not so, on FLAME."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Finding", "FindingKind"]

FindingKind = Literal[
    "async-method",
    "class-in-script",
    "convergence-test-raises",
    "disclosure",
    "log-error",
    "message-size",
    "order-dependent",
    "same-object",
    "shared-state",
    "unknown-name",
    "unnoisable-result",
    "unseeded-random",
]


class Finding(msgspec.Struct, frozen=True):
    """One thing noticed: its `kind` (a page of the docs each), what it is, and what to change.

    `node_id` and `round` say where it was first seen; `path` is the attribute path in the object concerned, as in
    `result["weights"][0]`.
    """

    kind: FindingKind
    message: str
    advice: str
    node_id: str | None = None
    round: int | None = None
    path: str | None = None

    @property
    def page(self) -> str:
        """Where the docs say what a finding of this kind means, why it matters, and what to change."""
        return f"docs/findings.md#{self.kind}"
