"""Write a report to files: the page, and the JSON that `load_report` reads."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from star_actors.errors import ConfigurationError
from star_actors.release.delivery import check_paths, write
from star_actors.report import Report
from star_actors.tagged import dump_report

from .log_rows import WITHHELD
from .page import as_page
from .trajectory import is_private

__all__ = ["save"]


def save(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write `report` as a page to `path`, and as JSON beside it; as JSON alone where `path` ends in `.json`.

    Returns the path. Raises ConfigurationError for what is no such path, OSError where it cannot be written.
    """
    if path is None:
        raise ConfigurationError("path=None is given, a path that ends in .html or .json is wanted")
    check_paths(path, name="path")
    page = Path(path)
    ending = page.suffix.lower()
    if ending not in (".html", ".htm", ".json"):
        raise ConfigurationError(
            f"path={str(page)!r} is given, one that ends in .html (a page, and the JSON beside it) or .json is wanted"
        )
    data = page if ending == ".json" else page.with_suffix(".json")
    check_paths(data, name="path")
    write(data, dump_report(_for_export(report)))
    if ending != ".json":
        write(page, as_page(report, data.name).encode())
    return page


def _for_export(report: Report) -> Report:
    """The report without what nodes logged, where privacy is on; also where a run ended before its account began."""
    if not is_private(report):
        return report
    logs = [msgspec.structs.replace(log, message=WITHHELD) for log in report.logs]
    return msgspec.structs.replace(report, logs=logs)
