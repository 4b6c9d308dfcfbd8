"""The page: a report as one HTML document that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from urllib.parse import quote

from star_actors._version import __version__
from star_actors.report import Report

from .chart_sections import convergence, nodes, traffic
from .frames import text
from .log_rows import logs
from .sections import outcome, overview, privacy, remarks, rounds
from .summary import headline

__all__ = ["as_page"]


def as_page(report: Report, data_name: str | None = None) -> str:
    """A report as an HTML document; `data_name` is the JSON file beside it that its footer points to.

    Only the style and the script that are in it by their hash may act, so nothing that a run wrote can, and nothing is
    ever fetched. Of long runs it draws and lists a part, and says so.
    """
    style, script = _asset("page.css"), _asset("page.js")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:"
    parts = [part(report) for part in (overview, outcome, privacy, remarks, convergence, nodes, traffic, rounds, logs)]
    beside = "" if data_name is None else f' The same as data: <a href="./{quote(data_name)}">{text(data_name)}</a>.'
    skip = '<a class="skip" href="#logs">Skip to the logs</a>' if report.logs else ""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<link rel="icon" href="data:,"><title>{text(headline(report))}</title>',
            f"<style>{style}</style></head><body>{skip}<main>",
            *(part for part in parts if part),
            f"</main><footer>star_actors {text(__version__)}.{beside}</footer>",
            f"<script>{script}</script></body></html>",
            "",
        ]
    )


def _asset(name: str) -> str:
    return resources.files("star_actors.display").joinpath(name).read_text("utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
