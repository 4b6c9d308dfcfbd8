"""What stands where a value must not be shown."""

from __future__ import annotations

import msgspec

__all__ = ["Withheld"]


class Withheld(msgspec.Struct, frozen=True):
    """Stands in a report for an exact value that noise protects."""

    reason: str = "exact value withheld: privacy is on"

    def __str__(self) -> str:
        return f"<{self.reason}>"
