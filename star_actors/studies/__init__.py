"""Many runs, one question: pooled comparison, sensitivity, the audit of noise, the cost of privacy.

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audit import AuditResult
    from .pooled import Comparison, Difference, compare_pooled
    from .quiet import run_quietly
    from .sensitivity import Change, Failure, SensitivityCheck, check_sensitivity
    from .sweep import Sweep, SweepRow, privacy_sweep

__all__ = [
    "AuditResult",
    "Change",
    "Comparison",
    "Difference",
    "Failure",
    "SensitivityCheck",
    "Sweep",
    "SweepRow",
    "check_sensitivity",
    "compare_pooled",
    "privacy_sweep",
    "run_quietly",
]

_HOME = {
    "audit": ("AuditResult",),
    "pooled": ("Comparison", "Difference", "compare_pooled"),
    "quiet": ("run_quietly",),
    "sensitivity": ("Change", "Failure", "SensitivityCheck", "check_sensitivity"),
    "sweep": ("Sweep", "SweepRow", "privacy_sweep"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    try:
        module = _MODULE_OF[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
