"""Every way in works in a notebook, where an event loop is always running: one is executed with a real kernel."""

from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

CLASSES = """
from star_actors import AsyncStarModelTester, StarAggregator, StarAnalyzer, StarModelTester

class MyAnalyzer(StarAnalyzer):
    def analysis_method(self, data, aggregator_results):
        local = sum(data) / len(data)
        return local if aggregator_results is None else (local + aggregator_results) / 2 + 0.5

class MyAggregator(StarAggregator):
    def aggregation_method(self, analysis_results):
        self.flame.flame_log(f"mean of {analysis_results}", log_type="notice")
        return sum(analysis_results) / len(analysis_results)

    def has_converged(self, result, last_result):
        return self.num_iterations >= 5

arguments = dict(
    data_splits=[[1, 2, 3, 4], [5, 6, 7, 8]],
    analyzer=MyAnalyzer,
    aggregator=MyAggregator,
    data_type="s3",
    simple_analysis=False,
)
"""
BLOCKING = "tester = StarModelTester(**arguments)"
TWICE = "(tester.result, StarModelTester(**arguments).result)"
AWAITED = "report = await AsyncStarModelTester(**arguments)\n(report.result, report.stop_reason)"
LIVE = """
async with AsyncStarModelTester(**arguments) as live:
    async for round in live:
        print(round.number, round.aggregate)
live.result
"""
FAILING = """
class Failing(MyAnalyzer):
    def analysis_method(self, data, aggregator_results):
        return data["age"]

StarModelTester(**arguments | {"analyzer": Failing})
"""
AFTER_THE_FAILURE = "StarModelTester(**arguments).result"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The cells of the executed notebook, by their source."""
    folder = tmp_path_factory.mktemp("notebook")
    sources = [CLASSES, BLOCKING, TWICE, AWAITED, LIVE, FAILING, AFTER_THE_FAILURE]
    v4: Any = nbformat.v4  # its functions have no types
    notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])
    notebook.cells[sources.index(FAILING)].metadata["tags"] = ["raises-exception"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return dict(zip(sources, notebook.cells, strict=True))


def printed(cell: Any) -> list[str]:
    return [line for output in cell.outputs if output.output_type == "stream" for line in str(output.text).splitlines()]


def value(cell: Any) -> str:
    (shown,) = (output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result")
    return str(shown)


def test_the_blocking_call_runs_and_prints_in_a_cell(cells: dict[str, Any]) -> None:
    lines = printed(cells[BLOCKING])
    assert lines[0] == "--- Starting Iteration 0 ---"
    assert lines[-1] == "Final result: 5.46875"


def test_the_blocking_call_runs_twice_in_one_kernel(cells: dict[str, Any]) -> None:
    assert value(cells[TWICE]) == "(5.46875, 5.46875)"


def test_an_awaited_run_gives_its_report_and_prints_nothing(cells: dict[str, Any]) -> None:
    assert value(cells[AWAITED]) == "(5.46875, 'converged')"
    assert printed(cells[AWAITED]) == []


def test_rounds_come_as_they_end(cells: dict[str, Any]) -> None:
    means = ["4.5", "5.0", "5.25", "5.375", "5.4375", "5.46875"]
    assert printed(cells[LIVE]) == [f"{number} {mean}" for number, mean in enumerate(means)]
    assert value(cells[LIVE]) == "5.46875"


def test_a_failure_names_the_node_and_the_cells_own_line(cells: dict[str, Any]) -> None:
    (error,) = (output for output in cells[FAILING].outputs if output.output_type == "error")
    assert error.ename == "NodeError"
    assert error.evalue.startswith("node_0 (default) failed in round 0, in Failing.analysis_method: TypeError: ")
    assert '         return data["age"]' in error.evalue.splitlines()


def test_a_cell_runs_after_a_failed_one(cells: dict[str, Any]) -> None:
    assert value(cells[AFTER_THE_FAILURE]) == "5.46875"
