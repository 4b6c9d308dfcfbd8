"""The release pipeline: what an aggregate passes through on its way out.

    aggregate
        |
     privacy     where a run asks for it: noise, or a PrivacyError; nothing exact passes
        |
     encoding    str, bytes or pickle; an EncodingError where the result does not fit
        |
     delivery    a file, or the console, last; a DeliveryError where it cannot be written

Each is a small callable stage over one `Draft`, and the pipeline is a list of stages. What a stage has done stays on
the draft when a later one fails: the released result and the finished outputs are never lost.

Names are loaded when they are first used: the report imports `release.withheld` and must not pull in the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .delivery import check_paths
    from .encoding import check_output_type
    from .pipeline import UNSET, Draft, Stage, build_pipeline, run_pipeline
    from .withheld import Withheld

__all__ = [
    "UNSET",
    "Draft",
    "Stage",
    "Withheld",
    "build_pipeline",
    "check_output_type",
    "check_paths",
    "run_pipeline",
]

_MODULE_OF = {
    "UNSET": "pipeline",
    "Draft": "pipeline",
    "Stage": "pipeline",
    "Withheld": "withheld",
    "build_pipeline": "pipeline",
    "check_output_type": "encoding",
    "check_paths": "delivery",
    "run_pipeline": "pipeline",
}


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
