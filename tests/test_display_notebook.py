"""What a notebook shows of a run, during it and after it, in a real kernel."""

from collections.abc import Sequence
from typing import Any

import nbformat
import pytest
from display_runs import report_of
from nbclient import NotebookClient

from star_actors.display.notebook import as_html

CLASSES = """
import time
from star_actors import StarAggregator, StarAnalyzer, StarModelTester
class Slow(StarAnalyzer):
    def __init__(self, flame, pause):
        super().__init__(flame)
        self.pause = pause
    def analysis_method(self, data, last):
        time.sleep(self.pause)
        self.flame.flame_log(f"in round {self.num_iterations}", log_type="notice")
        return data if last is None else (data + last) / 2 + 0.25
class Mean(StarAggregator):
    def aggregation_method(self, results):
        return sum(results) / len(results)
    def has_converged(self, result, last):
        return self.num_iterations >= 9
def run(pause, **options):
    return StarModelTester([1.0, 2.0], Slow, Mean, "s3", None, False, analyzer_kwargs={"pause": pause}, **options)
"""
CELLS = {
    "slow": "slow = run(0.1)",
    "quiet": "run(0.1, progress=False);",
    "short": "run(0.0);",
    "report": "slow.report",
    "plot": "slow.report.plot()",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The outputs of each cell, by its name."""
    folder = tmp_path_factory.mktemp("notebook")
    v4: Any = nbformat.v4  # its functions have no types
    notebook = v4.new_notebook(cells=[v4.new_code_cell(code) for code in (CLASSES, *CELLS.values())])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return {name: list(cell.outputs) for name, cell in zip(CELLS, notebook.cells[1:], strict=True)}


def html_of(outputs: Sequence[Any]) -> list[str]:
    return [str(output.data["text/html"]) for output in outputs if "text/html" in output.get("data", {})]


def printed(outputs: Sequence[Any]) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_a_run_keeps_one_display_that_ends_with_what_became_of_it(outputs: dict[str, list[Any]]) -> None:
    (display,) = html_of(outputs["slow"])
    assert "10 rounds in " in display
    assert "change per round</span> <svg" in display


def test_logs_and_the_result_are_printed_as_ever(outputs: dict[str, list[Any]]) -> None:
    for name in ("slow", "quiet", "short"):
        assert printed(outputs[name]).count("in round 4\n") == 2
        assert printed(outputs[name]).endswith("Final result: 1.9990234375\n")


@pytest.mark.parametrize("name", ["quiet", "short"])
def test_nothing_is_displayed_of_a_short_run_or_where_it_is_switched_off(
    outputs: dict[str, list[Any]], name: str
) -> None:
    assert html_of(outputs[name]) == []


def test_a_report_shows_itself(outputs: dict[str, list[Any]]) -> None:
    (shown,) = html_of(outputs["report"])
    assert "Converged after 10 rounds" in shown
    assert "<svg" in shown


def test_a_plot_shows_itself_once(outputs: dict[str, list[Any]]) -> None:
    assert ["image/png" in output.data for output in outputs["plot"]] == [True]


def test_a_fragment_holds_nothing_that_runs_or_is_fetched() -> None:
    shown = as_html(report_of([{"<script>": float(i)} for i in range(30)], warnings=["<script>alert(1)</script>"]))
    assert "<script" not in shown
    assert "http" not in shown
    assert "18 more" in shown
