"""The pytest plugin, in pytest sessions of its own: what passes, what fails, and what a failure shows."""

import os
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from page_blocks import blocks_of

from star_actors import Report, pytest_plugin
from star_actors.findings import Finding
from star_actors.pytest_plugin import Patients, Split, assert_converged, assert_ready_for_flame

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent

PLUGINS = ("-W", "error", "-p", "star_actors.pytest_plugin", "-p", "xdist.plugin")

ANALYSIS = """
from star_actors import StarAggregator, StarAnalyzer

def site_mean(values):
    return sum(values) / len(values)

class Site(StarAnalyzer):
    def analysis_method(self, data, aggregator_results):
        self.flame.flame_log(f"{len(data)} values", log_type="notice")
        return site_mean(data)

class Mean(StarAggregator):
    def aggregation_method(self, analysis_results):
        return sum(analysis_results) / len(analysis_results)

    def has_converged(self, result, last_result):
        return result == last_result
"""
HEAD = "from analysis import Mean, Site\n"


@pytest.fixture(autouse=True)
def only_these_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    # By name, so that the tests are the same where the package is installed and where it is only on the path.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def session(pytester: pytest.Pytester, tests: str, *options: str, analysis: str = ANALYSIS) -> pytest.RunResult:
    """Run a module of tests beside the analysis."""
    pytester.makepyfile(analysis=analysis)
    pytester.makepyfile(HEAD + tests)
    return pytester.runpytest_subprocess(*PLUGINS, *options, timeout=100)


# The plugin itself


def test_the_package_installs_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert pkgutil.resolve_name(project["entry-points"]["pytest11"]["star_actors"]) is pytest_plugin


def test_a_session_that_does_not_use_the_plugin_imports_nothing_for_it() -> None:
    code = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport star_actors.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ})
    own = {"star_actors", "star_actors._version", "star_actors.pytest_plugin"}
    assert set(ran.stdout.split()) - own == set()


# star


def test_star_gives_the_report(pytester: pytest.Pytester) -> None:
    ran = session(pytester, "def test_it(star):\n    assert star([[1, 2], [4]], Site, Mean).result == 2.75\n")
    ran.assert_outcomes(passed=1)


def test_star_takes_the_testers_other_arguments(pytester: pytest.Pytester) -> None:
    tests = """
def test_it(star):
    report = star(data_splits=[[1], [2]], analyzer=Site, aggregator=Mean, data_type="fhir", simple_analysis=False)
    assert report.stop_reason == "converged"
"""
    session(pytester, tests).assert_outcomes(passed=1)


def test_star_prints_nothing(pytester: pytest.Pytester) -> None:
    tests = """
def test_it(star, capfd):
    star([[1], [2]], Site, Mean, simple_analysis=False)
    assert capfd.readouterr() == ("", "")
"""
    session(pytester, tests).assert_outcomes(passed=1)


def test_star_works_inside_an_async_test(pytester: pytest.Pytester) -> None:
    tests = """
import pytest

@pytest.mark.anyio
async def test_it(star):
    assert star([[1], [2]], Site, Mean).result == 1.5

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
    session(pytester, tests, "-p", "anyio.pytest_plugin").assert_outcomes(passed=1)


def test_a_failing_node_fails_the_test_with_the_lines_of_its_own_code(pytester: pytest.Pytester) -> None:
    ran = session(pytester, "def test_it(star):\n    star([[1], []], Site, Mean)\n")
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(
        [
            ">*return site_mean(data)",
            ">*return sum(values) / len(values)",
            "E*ZeroDivisionError: division by zero",
            "*direct cause of the following exception:",
            ">*star(*, Site, Mean)",
            "E*NodeError: node_1 (default) failed in round 0, in Site.analysis_method: ZeroDivisionError*",
        ]
    )


@pytest.mark.parametrize("engine", ["auto", "serial", "threads", "processes"])
def test_a_failing_node_shows_no_frame_of_the_package(pytester: pytest.Pytester, engine: str) -> None:
    ran = session(pytester, f"def test_it(star):\n    star([[1], []], Site, Mean, engine={engine!r})\n")
    ran.assert_outcomes(failed=1)
    ran.stdout.no_fnmatch_line("*star_actors/*.py:*")


def test_a_failing_node_can_be_what_a_test_wants(pytester: pytest.Pytester) -> None:
    tests = """
import pytest
from star_actors import NodeError

def test_it(star):
    with pytest.raises(NodeError, match="division by zero") as caught:
        star([[1], []], Site, Mean)
    assert caught.value.node_id == "node_1"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.report.stop_reason == "failed"
"""
    session(pytester, tests).assert_outcomes(passed=1)


def test_a_wrong_argument_fails_the_test_with_its_text(pytester: pytest.Pytester) -> None:
    ran = session(pytester, "def test_it(star):\n    star([], Site, Mean)\n")
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["E*ConfigurationError: data_splits is empty*"])
    ran.stdout.no_fnmatch_line("*star_actors/*.py:*")


def test_a_failing_test_shows_what_nodes_logged(pytester: pytest.Pytester) -> None:
    ran = session(pytester, "def test_it(star):\n    assert star([[1], [2, 3]], Site, Mean).result == 0\n")
    ran.stdout.fnmatch_lines(["*star logs*", "node_0 round 0 notice: 1 values", "node_1 round 0 notice: 2 values"])


def test_the_plugin_works_under_xdist(pytester: pytest.Pytester) -> None:
    tests = """
import os
import pytest

@pytest.mark.parametrize("number", range(8))
def test_it(star, star_patients, number):
    assert os.environ["PYTEST_XDIST_WORKER_COUNT"] == "2"
    assert star([[number], [number]], Site, Mean).result == number
    assert len(star_patients(3)) == 3
"""
    session(pytester, tests, "-n", "2").assert_outcomes(passed=8)


# Data


def test_patients_are_the_same_for_the_same_seed(pytester: pytest.Pytester) -> None:
    tests = """
import hashlib

def test_it(star_patients):
    (split,), = star_patients(1, rows=50)
    print("digest", hashlib.sha256(split["patients.csv"]).hexdigest())
"""
    runs = [session(pytester, tests, "-s", "--star-seed", seed) for seed in ("3", "3", "4")]
    first, again, other = [next(line for line in ran.outlines if "digest" in line) for ran in runs]
    assert first == again != other


def test_patients_come_in_the_shape_of_flame(pytester: pytest.Pytester) -> None:
    tests = """
def test_it(star_patients, star):
    assert star(star_patients(2), Site, Mean).warnings == []
"""
    counting = ANALYSIS.replace("site_mean(data)", "len(data)")
    session(pytester, tests, analysis=counting).assert_outcomes(passed=1)


def test_patients_are_made_once_each(pytester: pytest.Pytester) -> None:
    tests = """
def test_it(star_patients):
    lines = [line for (files,) in star_patients(3, rows=40, how="size") for line in files["patients.csv"].split()[1:]]
    assert sorted(int(line.split(b",")[0]) for line in lines) == list(range(1, 41))
"""
    session(pytester, tests).assert_outcomes(passed=1)


def test_split_is_seeded_by_a_fixture_that_a_test_may_replace(pytester: pytest.Pytester) -> None:
    tests = """
import pytest
from star_actors.data import split

@pytest.fixture
def star_seed():
    return 7

def test_it(star_split):
    assert star_split(list(range(30)), 3) == split(list(range(30)), 3, seed=7) != split(list(range(30)), 3)
    assert star_split(list(range(30)), 3, seed=1) == split(list(range(30)), 3, seed=1)
"""
    session(pytester, tests).assert_outcomes(passed=1)


def test_a_seed_below_zero_is_refused(pytester: pytest.Pytester) -> None:
    ran = session(pytester, "def test_it(star_seed):\n    pass\n", "--star-seed", "-1")
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*--star-seed -1 is given, a whole number from 0 is wanted*"])


# Checks of a report


def test_a_converged_run_passes(pytester: pytest.Pytester) -> None:
    tests = """
from star_actors.pytest_plugin import assert_converged

def test_it(star):
    assert_converged(star([[1], [2]], Site, Mean, simple_analysis=False), within=2)
"""
    session(pytester, tests).assert_outcomes(passed=1)


def test_a_run_of_one_round_never_converged() -> None:
    with pytest.raises(AssertionError, match="never asked has_converged: run it with simple_analysis=False"):
        assert_converged(Report(stop_reason="single round"))


def test_a_run_that_did_not_converge_fails_with_its_report() -> None:
    with pytest.raises(AssertionError, match=r"did not converge \(max_iterations\)\n\nNot converged after 0 rounds"):
        assert_converged(Report(stop_reason="max_iterations"))


def test_a_run_that_took_too_many_rounds_fails(pytester: pytest.Pytester) -> None:
    tests = """
from star_actors.pytest_plugin import assert_converged

def test_it(star):
    assert_converged(star([[1], [2]], Site, Mean, simple_analysis=False), within=1)
"""
    ran = session(pytester, tests)
    ran.stdout.fnmatch_lines([">*assert_converged(*", "E*converged in 2 rounds, within=1 is wanted"])
    ran.stdout.no_fnmatch_line("*star_actors/*.py:*")


POOLED = """
from star_actors.pytest_plugin import assert_equal_to_pooled

def test_it():
    assert_equal_to_pooled({splits}, Site, Mean, {more})
"""


def test_a_result_that_is_the_pooled_one_passes(pytester: pytest.Pytester) -> None:
    session(pytester, POOLED.format(splits="[[1, 2], [3, 6]]", more="")).assert_outcomes(passed=1)


def test_a_result_that_is_not_the_pooled_one_fails_with_both_numbers(pytester: pytest.Pytester) -> None:
    ran = session(pytester, POOLED.format(splits="[[1, 2], [6]]", more=""))
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines([">*assert_equal_to_pooled(*", "E*DIFFERENT*", "E*3.75*3*0.75*0.25*"])
    ran.stdout.no_fnmatch_line("*star_actors/*.py:*")


def test_a_result_may_be_off_by_as_much_as_the_test_allows(pytester: pytest.Pytester) -> None:
    session(pytester, POOLED.format(splits="[[1, 2], [6]]", more="rtol=0.26")).assert_outcomes(passed=1)


def test_a_node_that_fails_in_a_comparison_is_shown_by_its_own_lines(pytester: pytest.Pytester) -> None:
    ran = session(pytester, POOLED.format(splits="[[1], []]", more=""))
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines([">*return sum(values) / len(values)", "E*NodeError: node_1*"])
    ran.stdout.no_fnmatch_line("*star_actors/*.py:*")


FINDINGS = [
    Finding("log-error", "it stops there", "raise an exception", "node_0", 0),
    Finding("message-size", "3 MB are sent", "send less", "node_1", 2, "result[0]"),
]


def test_a_report_without_findings_is_ready_for_flame() -> None:
    assert_ready_for_flame(Report())


def test_findings_are_listed_with_what_to_do() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_ready_for_flame(Report(findings=FINDINGS))
    assert str(caught.value).splitlines() == [
        "not ready for FLAME: 2 findings",
        "",
        "  log-error (node_0, round 0)",
        "    it stops there",
        "    raise an exception",
        "",
        "  message-size (node_1, round 2, result[0])",
        "    3 MB are sent",
        "    send less",
    ]


def test_a_kind_of_finding_can_be_accepted() -> None:
    assert_ready_for_flame(Report(findings=FINDINGS), ignore=["log-error", "message-size"])


def test_one_accepted_kind_leaves_the_others() -> None:
    with pytest.raises(AssertionError, match="1 finding\n\n  message-size"):
        assert_ready_for_flame(Report(findings=FINDINGS), ignore=["log-error"])


def test_a_kind_must_come_in_a_list() -> None:
    with pytest.raises(TypeError, match=r"a list of kinds is wanted: ignore=\['log-error'\]"):
        assert_ready_for_flame(Report(), ignore="log-error")  # type: ignore[arg-type]


def test_the_page_of_the_docs_is_a_module_of_tests_that_pass(pytester: pytest.Pytester) -> None:
    blocks = [
        block.code for block in blocks_of((ROOT / "docs" / "pytest.md").read_text("utf-8")) if block.kind == "python"
    ]
    module = pytester.makepyfile("\n".join(blocks))
    ran = pytester.runpytest_subprocess(*PLUGINS, module, timeout=100)
    ran.assert_outcomes(passed="\n".join(blocks).count("def test_") + 2)  # one of them is run for three ways to cut


def test_the_fixtures_can_be_annotated() -> None:
    assert all(isinstance(kind, type) for kind in (Patients, Split, pytest_plugin.Star))
