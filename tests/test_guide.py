"""The guide, as it is: every code block of docs/guide.txt runs, and none can be added without a test here.

The guide has no fences: the word `python` on a line of its own opens a block, and prose ends it. A block is named by
the line of prose before it.
"""

import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

import pytest

import star_actors
from flame.star import StarAggregator, StarAnalyzer, StarModelTester
from star_actors import ConfigurationError, NodeError

GUIDE = (Path(__file__).parent.parent / "docs" / "guide.txt").read_text(encoding="utf-8").splitlines()
CODE = re.compile(r"\s|#|from |import |class |def |if |return |self\.|\w+\s?=|\w+\(")
"""How the first line of a paragraph of code begins, at its block's own depth; prose begins otherwise."""
DATA = {"data1": [1, 2, 3, 4], "data2": [5, 6, 7, 8], "data3": [9, 10, 11, 12]}


def blocks_of(lines: Sequence[str]) -> list[tuple[str, str, int]]:
    """The blocks of a guide in order: the line of prose before each, its code, and the number of its first line."""
    found = []
    for number, line in enumerate(lines):
        if line.strip() == "python":
            intro = next(text.strip("• ") for text in reversed(lines[:number]) if text.strip())
            indent = " " * line.index("python")
            code: list[str] = []
            for text in lines[number + 1 :]:
                inside = text.startswith(indent)
                opens_paragraph = not code or not code[-1]
                if text.strip() and (not inside or (opens_paragraph and not CODE.match(text.removeprefix(indent)))):
                    break
                code.append(text.removeprefix(indent).rstrip())
            while code and not code[-1]:
                code.pop()
            found.append((intro, "\n".join(code), number + 1))
    return found


BLOCKS = {intro: code for intro, code, _ in blocks_of(GUIDE)}
TESTED: set[str] = set()


def guide(start: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a test the code of the one block whose line before begins with `start`; note that this block has a test."""
    (intro,) = (intro for intro in BLOCKS if intro.startswith(start))
    TESTED.add(intro)
    return pytest.mark.parametrize("code", [pytest.param(BLOCKS[intro], id=start)])


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def quick_start() -> dict[str, Any]:
    """What the guide's user has at hand after Quick Start: its names, without the run at its end, and data."""
    classes = BLOCKS["Basic Example"].partition("# Test with local data")[0]
    names = run(classes, {})
    return names | {name: list(data) for name, data in DATA.items()}


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a block with `names` at hand; gives the names as they stand afterwards."""
    exec(compile(code, "guide.txt", "exec"), names)
    return names


def run_as_script(code: str) -> subprocess.CompletedProcess[str]:
    Path("program.py").write_text(code + "\n", encoding="utf-8")
    return subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, timeout=60)


def final_result(output: str) -> float:
    last = output.splitlines()[-1]
    assert last.startswith("Final result: ")
    return float(last.removeprefix("Final result: "))


# The list of blocks


def test_every_block_of_the_guide_has_a_test() -> None:
    assert set(BLOCKS) == TESTED


def test_no_two_blocks_of_the_guide_go_by_one_name() -> None:
    assert len(blocks_of(GUIDE)) == len(BLOCKS) == len([line for line in GUIDE if line.strip() == "python"])


def test_no_line_of_code_stands_outside_the_blocks() -> None:
    inside = {start + i for _, code, start in blocks_of(GUIDE) for i in range(len(code.splitlines()))}
    code = re.compile(r"(class|def) \w+.*:$|(from \S+ )?import \w+|return |if .*:$|else:$|\w+ ?= ?\S|\w+\($|\)$|@\w")
    outside = [line for number, line in enumerate(GUIDE) if number not in inside and code.match(line.strip())]
    assert outside == []


def test_a_block_that_is_added_is_found() -> None:
    added = "Text\n\n  • A point:\n\n    python\n    x = 1\n\n    if x:\n        y = 2\n  • More.\npython".splitlines()
    assert blocks_of(added) == [("A point:", "x = 1\n\nif x:\n    y = 2", 5), ("More.", "", 11)]


# Whole programs, verbatim


@guide("Basic Example")
def test_the_quick_start_runs_as_it_is(code: str) -> None:
    ran = run_as_script(code)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert final_result(ran.stdout) == 4.5


@guide("Here's a complete example")
def test_the_complete_example_ends_at_exactly_5_46875(code: str) -> None:
    ran = run_as_script(code)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert final_result(ran.stdout) == 5.46875


@guide("Here's a complete example")
def test_the_complete_example_takes_6_rounds(code: str) -> None:
    names = run(code, {"__name__": "the_example"})
    tester = StarModelTester(
        [[1, 2, 3, 4], [5, 6, 7, 8]], names["MyAnalyzer"], names["MyAggregator"], "s3", simple_analysis=False
    )
    assert (tester.result, len(tester.report.rounds), tester.report.stop_reason) == (5.46875, 6, "converged")


@guide("Here's a complete example")
def test_the_complete_example_shows_its_logs_by_round_and_node_and_the_result_last(code: str) -> None:
    lines = run_as_script(code).stdout.splitlines()
    assert lines[:9] == [
        "--- Starting Iteration 0 ---",
        "Logs for Analyzer node_0:",
        "\tAggregator results in MyAnalyzer: None",
        "MyAnalysis result (node_0): 2.5",
        "Logs for Analyzer node_1:",
        "\tAggregator results in MyAnalyzer: None",
        "MyAnalysis result (node_1): 6.5",
        "Logs for Aggregator node_2:",
        "\tAnalysis results in MyAggregator: [2.5, 6.5]",
    ]
    assert [line for line in lines if "Starting Iteration" in line][-1] == "--- Starting Iteration 5 ---"
    assert lines[-1] == "Final result: 5.46875"


# Components: the guide's outlines of the classes, and the tester's arguments


@guide("The analyzer processes data")
def test_the_analyzer_has_the_outlined_methods(code: str) -> None:
    assert_outlined(run(code, {})["StarAnalyzer"], StarAnalyzer)


@guide("The aggregator combines results")
def test_the_aggregator_has_the_outlined_methods(code: str) -> None:
    assert_outlined(run(code, {})["StarAggregator"], StarAggregator)


def assert_outlined(outline: type, ours: type) -> None:
    methods = {name: method for name, method in vars(outline).items() if inspect.isfunction(method)}
    assert methods
    for name, method in methods.items():
        assert list(inspect.signature(getattr(ours, name)).parameters) == list(inspect.signature(method).parameters)


@guide("The testing harness")
def test_the_tester_takes_the_listed_arguments_in_the_listed_order(
    code: str, quick_start: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run(code, quick_start | four_arguments(quick_start))
    assert final_result(capsys.readouterr().out) == 4.5


@guide("The testing harness")
def test_the_tester_has_the_listed_arguments_and_defaults(code: str) -> None:
    seen: dict[str, Any] = {}
    names = dict.fromkeys(["data_splits", "analyzer", "aggregator", "data_type"], inspect.Parameter.empty)
    run(code, names | {"StarModelTester": lambda *args, **kwargs: seen.update(zip(names, args, strict=True), **kwargs)})
    positional = inspect.signature(StarModelTester).parameters.values()
    ours = {one.name: one.default for one in positional if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert list(seen.items()) == list(ours.items())


def quick_tester(quick_start: dict[str, Any], **given: Any) -> StarModelTester:
    """Run the tester with the Quick Start's classes and two splits, other arguments as given."""
    arguments: dict[str, Any] = {**four_arguments(quick_start), **given}
    return StarModelTester(**arguments)


def four_arguments(quick_start: dict[str, Any]) -> dict[str, Any]:
    return {
        "data_splits": [quick_start["data1"], quick_start["data2"]],
        "analyzer": quick_start["MyAnalyzer"],
        "aggregator": quick_start["MyAggregator"],
        "data_type": "s3",
    }


# Parameters Explained: each line is a name bound to a value, which then goes to the tester


def run_with(code: str, quick_start: dict[str, Any], **given: Any) -> StarModelTester:
    """Run a line that binds an argument, then the tester with that argument beside the Quick Start's."""
    before = set(quick_start)
    bound = {name: value for name, value in run(code, quick_start).items() if name not in before}
    bound.pop("__builtins__", None)
    assert len(bound) == 1
    return quick_tester(quick_start, **bound, **given)


@guide("data_splits (list)")
def test_data_splits_are_one_fragment_per_node(code: str, quick_start: dict[str, Any]) -> None:
    nodes = {f"node{i}_data": data for i, data in enumerate(DATA.values(), start=1)}
    tester = run_with(code, quick_start | nodes)
    assert (tester.result, [node.has_data for node in tester.report.nodes]) == (6.5, [True, True, True, False])


@guide("analyzer (Type[StarAnalyzer])")
def test_the_analyzer_is_given_as_a_class(code: str, quick_start: dict[str, Any]) -> None:
    assert run_with(code, quick_start).result == 4.5


@guide("aggregator (Type[StarAggregator])")
def test_the_aggregator_is_given_as_a_class(code: str, quick_start: dict[str, Any]) -> None:
    assert run_with(code, quick_start).result == 4.5


@guide("query (str | list[str])")
@pytest.mark.parametrize("data_type", ["fhir", "s3"])
def test_a_query_changes_nothing_on_local_data(
    code: str, quick_start: dict[str, Any], data_type: Literal["fhir", "s3"]
) -> None:
    assert run_with(code, quick_start, data_type=data_type).result == 4.5


@guide("analyzer_kwargs (dict)")
def test_analyzer_kwargs_go_to_the_analyzer(code: str, quick_start: dict[str, Any]) -> None:
    class Analyzer(StarAnalyzer):
        def __init__(self, flame: Any, learning_rate: float, epochs: int) -> None:
            super().__init__(flame)
            self.given = (learning_rate, epochs)

        def analysis_method(self, data: Any, aggregator_results: Any) -> Any:
            return self.given

    class Aggregator(StarAggregator):
        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            return analysis_results

    assert run_with(code, quick_start, analyzer=Analyzer, aggregator=Aggregator).result == [(0.01, 10), (0.01, 10)]


@guide("aggregator_kwargs (dict)")
def test_aggregator_kwargs_go_to_the_aggregator(code: str, quick_start: dict[str, Any]) -> None:
    class Aggregator(StarAggregator):
        def __init__(self, flame: Any, threshold: float) -> None:
            super().__init__(flame)
            self.threshold = threshold

        def aggregation_method(self, analysis_results: list[Any]) -> Any:
            return self.threshold

    assert run_with(code, quick_start, aggregator=Aggregator).result == 0.001


@guide("result_filepath (str)")
def test_results_are_saved_where_result_filepath_says(code: str, quick_start: dict[str, Any]) -> None:
    run_with(code, quick_start, output_type="pickle")
    assert pickle.loads(Path("results/model_output.pkl").read_bytes()) == 4.5


# Usage Patterns, with the Quick Start's classes and data1 to data3


@guide("Use when you only need one round")
def test_pattern_1_takes_one_round(code: str, quick_start: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run(code, quick_start)
    assert capsys.readouterr().out == "Final result: 6.5\n"


@guide("Use for iterative algorithms")
def test_pattern_2_iterates_until_the_change_is_small(
    code: str, quick_start: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    class HalfWay(StarAnalyzer):
        def analysis_method(self, data: list[int], aggregator_results: float | None) -> float:
            local = sum(data) / len(data)
            return local if aggregator_results is None else (local + aggregator_results) / 2 + 0.5

    # The block's aggregator has no aggregation_method of its own: it gets the Quick Start's.
    run(code, quick_start | {"StarAggregator": quick_start["MyAggregator"], "MyAnalyzer": HalfWay})
    # From 6.5 the aggregate goes half the way to 7.5 a round; the change is under 0.001 after ten.
    assert final_result(capsys.readouterr().out) == 7.5 - 0.5**10


@guide("Add privacy guarantees")
def test_pattern_3_releases_a_result_with_noise(
    code: str, quick_start: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run(code, quick_start)
    released = final_result(capsys.readouterr().out)
    # Laplace noise of scale 1: beyond 40 once in 10^17 runs, and exactly 0 about as often.
    assert 0 < abs(released - 6.5) < 40


@guide("Save final results")
def test_pattern_4_saves_a_pickle(code: str, quick_start: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run(code, quick_start)
    assert pickle.loads(Path("results/trained_model.pkl").read_bytes()) == 4.5
    assert capsys.readouterr().out == f"Final result written to {Path('results/trained_model.pkl')}\n"


# Logging and Debugging


@guide("Use the flame logging system")
def test_logs_are_in_the_report_with_their_types(code: str, quick_start: dict[str, Any]) -> None:
    class Logging(StarAnalyzer):
        def analysis_method(self, data: Any, aggregator_results: Any) -> float:
            run(code, {"self": self})
            return 0.0

    tester = quick_tester(quick_start, analyzer=Logging, data_splits=[[1]])
    logs = [(log.node_id, log.role, log.log_type, log.message) for log in tester.report.logs]
    assert logs == [
        ("node_0", "default", "debug", "Debug message"),
        ("node_0", "default", "notice", "Notice message"),
    ]


# Common Pitfalls: `...` stands for the other arguments


def filled_in(code: str) -> str:
    for others in ("data_splits=[data1, data2]", "aggregator=MyAggregator, data_type='s3'"):
        code = code.replace("...", others, 1)
    return code


@guide("Don't instantiate classes:")
def test_an_instance_that_cannot_be_made_says_what_is_missing(code: str, quick_start: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"MyAnalyzer.*'flame'"):
        run(filled_in(code), quick_start)


@guide("Don't instantiate classes:")
def test_an_instance_is_refused_with_the_class_to_give(code: str, quick_start: dict[str, Any]) -> None:
    class MyAnalyzer(StarAnalyzer):
        def __init__(self, flame: Any = None) -> None:
            self.told = flame is not None

    with pytest.raises(ConfigurationError) as error:
        run(filled_in(code), quick_start | {"MyAnalyzer": MyAnalyzer})
    assert isinstance(error.value, TypeError)
    assert str(error.value) == (
        "analyzer=MyAnalyzer(...), an instance, is given, and the class itself is wanted: analyzer=MyAnalyzer; "
        "the nodes make their own instances"
    )


@guide("Pass the class itself:")
def test_the_class_itself_runs(code: str, quick_start: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run(filled_in(code), quick_start)
    assert final_result(capsys.readouterr().out) == 4.5


@guide("Don't forget to call super().init():")
def test_a_constructor_that_does_not_call_its_parents_ends_the_run_and_says_so(
    code: str, quick_start: dict[str, Any]
) -> None:
    analyzer = type("MyAnalyzer", (run(code, dict(quick_start))["MyAnalyzer"], quick_start["MyAnalyzer"]), {})
    with pytest.raises(NodeError, match=r"MyAnalyzer.__init__ did not call super\(\).__init__\(flame\)") as error:
        quick_tester(quick_start, analyzer=analyzer)
    assert (error.value.node_id, error.value.role, error.value.round) == ("node_0", "default", None)


@guide("Always call parent constructor:")
def test_a_constructor_that_calls_its_parents_runs(code: str, quick_start: dict[str, Any]) -> None:
    analyzer = type("MyAnalyzer", (run(code, dict(quick_start))["MyAnalyzer"], quick_start["MyAnalyzer"]), {})
    assert quick_tester(quick_start, analyzer=analyzer).result == 4.5


# Troubleshooting: bodies of methods


@guide("Solution: Check your has_converged()")
def test_a_maximum_of_iterations_ends_a_run(code: str, quick_start: dict[str, Any]) -> None:
    method = method_of("has_converged", "self, result, last_result", code, {"MAX_ITERATIONS": 3})
    aggregator = type("MyAggregator", (quick_start["MyAggregator"],), {"has_converged": method})
    assert len(quick_tester(quick_start, aggregator=aggregator, simple_analysis=False).report.rounds) == 4


@guide("Solution: Always handle the None case")
def test_the_first_iteration_is_told_from_later_ones_by_none(code: str, quick_start: dict[str, Any]) -> None:
    filled = code.replace("# First iteration logic", "return 0.0").replace(
        "# Subsequent iteration logic", "return aggregator_results + 1.0"
    )
    method = method_of("analysis_method", "self, data, aggregator_results", filled, {})
    analyzer = type("MyAnalyzer", (quick_start["MyAnalyzer"],), {"analysis_method": method})
    assert quick_tester(quick_start, analyzer=analyzer, simple_analysis=False).result == 5.0


def method_of(name: str, parameters: str, body: str, names: dict[str, Any]) -> Any:
    indented = "\n".join("    " + line for line in dedent(body).splitlines())
    return run(f"def {name}({parameters}):\n{indented}", names)[name]


# What the guide names besides


@pytest.mark.parametrize("name", ["StarAggregator", "StarAnalyzer", "StarModelTester"])
def test_the_guides_names_are_the_packages_own_objects(name: str) -> None:
    import flame.star

    assert getattr(flame.star, name) is getattr(star_actors, name)


def test_nodes_have_the_useful_properties(quick_start: dict[str, Any]) -> None:
    seen: list[tuple[str, str, int, Any]] = []

    class Analyzer(StarAnalyzer):
        def analysis_method(self, data: list[int], aggregator_results: float | None) -> float:
            seen.append((self.id, self.role, self.num_iterations, self.latest_result))
            return float(data[0])

    class Aggregator(StarAggregator):
        def aggregation_method(self, analysis_results: list[float]) -> float:
            seen.append((self.id, self.role, self.num_iterations, self.latest_result))
            return analysis_results[0] + 1

        def has_converged(self, result: float, last_result: float | None) -> bool:
            return self.num_iterations >= 1

    StarModelTester([[1]], Analyzer, Aggregator, "s3", simple_analysis=False)
    assert seen == [
        ("node_0", "default", 0, None),
        ("node_1", "aggregator", 0, None),
        ("node_0", "default", 1, 2.0),
        ("node_1", "aggregator", 1, 2.0),
    ]
