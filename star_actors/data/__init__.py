"""Bring data in: folders, S3 buckets and FHIR servers as data_splits in FLAME's shapes, and tables cut into parts.

Names are loaded when they are first used; boto3, httpx and NumPy only by the functions that need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import DataError, FhirError, S3Error
    from .fhir import afrom_fhir, from_fhir
    from .folders import from_folders
    from .s3 import from_s3
    from .splitting import split

__all__ = ["DataError", "FhirError", "S3Error", "afrom_fhir", "from_fhir", "from_folders", "from_s3", "split"]

_MODULE_OF = {
    "DataError": "errors",
    "FhirError": "errors",
    "S3Error": "errors",
    "afrom_fhir": "fhir",
    "from_fhir": "fhir",
    "from_folders": "folders",
    "from_s3": "s3",
    "split": "splitting",
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
