"""The notebooks of the examples run in a real kernel, and are stored as they came out of one.

`python tests/test_notebooks.py` runs them all and stores them anew, after a change.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))
MOST_BYTES = 400_000


def read(name: str) -> Any:
    return nbformat.read(EXAMPLES / name, as_version=4)  # type: ignore[no-untyped-call]


def execute(name: str, folder: Path) -> Any:
    """A notebook, run anew in a kernel of its own whose working folder is `folder`."""
    notebook = read(name)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    client = NotebookClient(notebook, timeout=100, kernel_name="python3", record_timing=False, coalesce_streams=True)
    client.execute(cwd=str(folder))
    # The kernel's exact version is the machine's affair.
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def printed(notebook: Any) -> list[str]:
    """What each code cell printed; the digits do not count where a cell is tagged "noise", which is never the same."""
    texts = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            text = "".join(output.text for output in cell.outputs if output.output_type == "stream")
            noisy = "noise" in cell.metadata.get("tags", [])
            texts.append(re.sub(r"\d[\d.,]*(e[+-]\d+)?", "0", re.sub(r"[ -]+", " ", text)) if noisy else text)
    return texts


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def pictures(notebook: Any) -> list[bytes]:
    data = [output.get("data", {}).get("image/png") for output in outputs(notebook)]
    return [base64.b64decode(picture) for picture in data if picture]


@pytest.fixture(scope="module", params=NOTEBOOKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def executed(name: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        patch.setenv("PYTHONWARNINGS", "error::UserWarning")
        return execute(name, folder)


def test_there_are_two_notebooks() -> None:
    assert NOTEBOOKS == ["live_rounds.ipynb", "privacy_trade_off.ipynb"]


def test_every_cell_runs_and_none_writes_to_standard_error(executed: Any) -> None:
    assert [output for output in outputs(executed) if output.get("name") == "stderr"] == []


def test_it_is_stored_as_executed_from_top_to_bottom(name: str) -> None:
    counts = [cell.execution_count for cell in read(name).cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_what_is_stored_is_what_it_prints(name: str, executed: Any) -> None:
    assert printed(read(name)) == printed(executed)


def test_a_plot_is_stored(name: str, executed: Any) -> None:
    assert len(pictures(read(name))) == len(pictures(executed)) > 0


def test_no_error_is_stored(name: str) -> None:
    assert [output for output in outputs(read(name)) if output.output_type == "error"] == []


def test_it_names_no_path_of_a_machine(name: str) -> None:
    text = re.sub(r'"image/png": "[^"]*"', "", (EXAMPLES / name).read_text(encoding="utf-8"))
    assert re.findall(r"(?:/home|/root|/tmp|/work|/Users|[A-Z]:\\\\)[^\"\s]*", text) == []


def test_it_is_small(name: str) -> None:
    assert (EXAMPLES / name).stat().st_size < MOST_BYTES


if __name__ == "__main__":
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    for each in NOTEBOOKS:
        nbformat.write(execute(each, EXAMPLES), EXAMPLES / each)  # type: ignore[no-untyped-call]
