"""The docs say what is so: every code block of every page runs, each shell block is run or named, links lead somewhere.

The guide has no fences, and a test of its own. A fence `text title="Printed"` must be what the Python block before it
printed; any other `text` is a drawing or a shape of data.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from page_blocks import Block, blocks_of

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
RUNNER = Path(__file__).parent / "page_blocks.py"

KINDS = {"python", "bash", "text"}
"""What may stand behind a fence. Python runs, shell is listed below, text is no code."""

NOT_RUN = {
    "pip install": "installs from an index; the README's commands are run on a fresh machine by .ci/run",
    "python -m benchmarks": "takes minutes; tests/test_benchmarks.py runs small ones",
    "python examples/live_app/app.py": "serves until it is stopped; tests/test_live_app.py runs it",
}
"""Beginnings of shell commands that are not run here, and why."""


def python_blocks(page: str) -> list[str]:
    return [block.code for block in blocks_of(PAGES[page]) if block.kind == "python"]


def commands() -> list[tuple[str, str]]:
    """Every shell command of the docs, with its page."""
    return [
        (page, line)
        for page, text in PAGES.items()
        for block in blocks_of(text)
        if block.kind == "bash"
        for line in block.code.replace("\\\n", "").splitlines()
        if line.strip() and not line.startswith("#")
    ]


def reason_not_to_run(command: str) -> str | None:
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), None)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)])
def test_the_python_blocks_of_a_page_run_and_print_what_it_says(page: str, tmp_path: Path) -> None:
    environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONWARNINGS": "error", "COLUMNS": "100"}
    ran = subprocess.run(
        [sys.executable, str(RUNNER), str(DOCS / page)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ran.returncode == 0, ran.stderr
    printed = iter(json.loads(ran.stdout))
    last = ""
    for block in blocks_of(PAGES[page]):
        if block.kind == "python":
            last = next(printed)
        elif block.printed:
            assert last == block.code


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_of_a_page_is_read_and_of_a_known_kind(page: str) -> None:
    blocks = blocks_of(PAGES[page])
    fences = re.findall(r"^[ \t]*(?:`{3,}|~{3,})", PAGES[page], re.MULTILINE)
    assert len(fences) == 2 * len(blocks)
    assert {block.kind for block in blocks} - KINDS == set()


@pytest.mark.parametrize("command", [pytest.param(line, id=f"{page}: {line}") for page, line in commands()])
def test_a_shell_command_runs_or_is_named_with_a_reason(command: str, tmp_path: Path) -> None:
    if reason_not_to_run(command) is not None:
        return
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr


def test_every_reason_not_to_run_is_needed() -> None:
    assert [start for start in NOT_RUN if not any(line.startswith(start) for _, line in commands())] == []


def test_a_block_is_read_with_its_kind_and_without_its_indent() -> None:
    step = '1. Step\n\n    ```python title="a"\n    x = 1\n    if x:\n        y\n    ```\n'
    page = step + '\n```text title="Printed"\n1\n```\n'
    assert blocks_of(page) == [
        Block("python", 'title="a"', "x = 1\nif x:\n    y\n"),
        Block("text", 'title="Printed"', "1\n"),
    ]


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of the builder fails. (With --quiet, mkdocs would not count its warnings.)"""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_site_shows_the_guide_line_by_line(site: Path) -> None:
    (shown,) = (text for text in code_of(site / "guide" / "index.html") if text.startswith("Skip to content"))
    # Markdown takes the blanks out of lines that hold nothing else.
    lines = [line if line.strip() else "" for line in (DOCS / "guide.txt").read_text(encoding="utf-8").splitlines()]
    assert shown.splitlines() == lines


def test_the_site_has_the_guide_as_it_is(site: Path) -> None:
    assert (site / "guide.txt").read_bytes() == (DOCS / "guide.txt").read_bytes()


def test_no_page_loads_anything_from_another_site(site: Path) -> None:
    loads = re.compile(r"<(?:script|img|iframe)[^>]*\ssrc=\"?(https?:)?//|<link[^>]*rel=\"?stylesheet[^>]*(https?:)?//")
    assert [str(path) for path in site.rglob("*.html") if loads.search(path.read_text(encoding="utf-8"))] == []


def test_every_page_is_in_the_navigation(site: Path) -> None:
    start = (site / "index.html").read_text(encoding="utf-8")
    addresses = [page.removesuffix("index.md").removesuffix(".md").rstrip("/") for page in PAGES]
    assert [page for page in addresses if f'href="{page}/"' not in start and page] == []


class _Code(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "code":
            self._inside = True
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "code":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.blocks[-1] += data


def code_of(page: Path) -> list[str]:
    """The text of every code element of a page."""
    parser = _Code()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser.blocks
