"""Run a federated STAR analysis in one process: actors, rounds, release, report.

Names are loaded when they are first used, so that `import star_actors` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .blocking import StarModelTester
    from .errors import (
        ConfigurationError,
        DeliveryError,
        EncodingError,
        FindingsError,
        NodeError,
        NotConvergedError,
        PrivacyError,
        StarError,
    )
    from .findings import Finding
    from .nodes import StarAggregator, StarAnalyzer
    from .options import Auto, Checks, Dask, History, Privacy, Processes, Serial, Threads
    from .platform.model import AsyncStarLocalDPModel, AsyncStarModel, StarLocalDPModel, StarModel
    from .release.withheld import Withheld
    from .report import Report, Round
    from .studies.audit import audit
    from .studies.pooled import compare_pooled
    from .studies.sensitivity import check_sensitivity
    from .studies.sweep import privacy_sweep
    from .tagged import load_report
    from .tester import AsyncStarModelTester

__all__ = [
    "AsyncStarLocalDPModel",
    "AsyncStarModel",
    "AsyncStarModelTester",
    "Auto",
    "Checks",
    "ConfigurationError",
    "Dask",
    "DeliveryError",
    "EncodingError",
    "Finding",
    "FindingsError",
    "History",
    "NodeError",
    "NotConvergedError",
    "Privacy",
    "PrivacyError",
    "Processes",
    "Report",
    "Round",
    "Serial",
    "StarAggregator",
    "StarAnalyzer",
    "StarError",
    "StarLocalDPModel",
    "StarModel",
    "StarModelTester",
    "Threads",
    "Withheld",
    "__version__",
    "audit",
    "check_sensitivity",
    "compare_pooled",
    "load_report",
    "privacy_sweep",
]

_HOME = {
    "blocking": ("StarModelTester",),
    "errors": (
        "ConfigurationError",
        "DeliveryError",
        "EncodingError",
        "FindingsError",
        "NodeError",
        "NotConvergedError",
        "PrivacyError",
        "StarError",
    ),
    "findings": ("Finding",),
    "nodes": ("StarAggregator", "StarAnalyzer"),
    "options": ("Auto", "Checks", "Dask", "History", "Privacy", "Processes", "Serial", "Threads"),
    "platform.model": ("AsyncStarLocalDPModel", "AsyncStarModel", "StarLocalDPModel", "StarModel"),
    "release.withheld": ("Withheld",),
    "report": ("Report", "Round"),
    "studies.audit": ("audit",),
    "studies.pooled": ("compare_pooled",),
    "studies.sensitivity": ("check_sensitivity",),
    "studies.sweep": ("privacy_sweep",),
    "tagged": ("load_report",),
    "tester": ("AsyncStarModelTester",),
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
