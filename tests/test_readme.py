"""The README says what is so: its code runs from top to bottom, a failure looks as shown, links lead somewhere."""

import ast
import asyncio
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"]


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_readme_has_two_commands() -> None:
    assert blocks("bash") == [
        "pip install -e . && python examples/quickstart.py\n",
        "pip install -e '.[test]' && pytest\n",
    ]


def test_the_ways_in_end_at_the_same_result(capsys: pytest.CaptureFixture[str]) -> None:
    *ways, _ = blocks("python")
    names: dict[str, Any] = {}
    results = []

    async def run_all() -> None:
        for block in ways:
            code: CodeType = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            outcome = eval(code, names)  # what a module of a notebook gives: a coroutine where it awaits
            if inspect.isawaitable(outcome):
                await outcome
            if "tester" in names:
                results.append(names["tester"].result)
        results.append(names["report"].result)

    asyncio.run(run_all())
    assert len(set(results)) == 1
    assert f"Final result: {results[0]}" in capsys.readouterr().out


def test_a_failure_looks_as_the_readme_shows_it(tmp_path: Path) -> None:
    classes, *_, failing = blocks("python")
    (tmp_path / "analysis.py").write_text(classes + failing, encoding="utf-8")
    ran = subprocess.run([sys.executable, "analysis.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    (shown,) = blocks("text")
    assert ran.returncode == 1
    assert ran.stderr.replace(f"{tmp_path}/", "").endswith("\n" + shown)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_that_exist(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(((?!https?:)[^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
