"""The command line, as a user or a script meets it: real processes, their output, their exit codes."""

import contextlib
import csv
import json
import os
import pickle
import pkgutil
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from page_blocks import blocks_of

from star_actors import load_report
from star_actors.cli.exits import Exit
from star_actors.cli.options import ENGINE_NAMES
from star_actors.options import ENGINES

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "star_actors.cli"]

MEAN = """
from flame.star import StarAggregator, StarAnalyzer, StarModelTester


class Site(StarAnalyzer):
    def __init__(self, flame, shift=0):
        super().__init__(flame)
        self.shift = shift

    def analysis_method(self, data, aggregator_results):
        values = [int(line) for line in data[0]["values.txt"].split()]
        self.flame.flame_log(f"mean of {len(values)}", log_type="notice")
        return sum(values) / len(values) + self.shift


class Mean(StarAggregator):
    def aggregation_method(self, analysis_results):
        return sum(analysis_results) / len(analysis_results)

    def has_converged(self, result, last_result):
        return result == last_result


if __name__ == "__main__":
    open("main_ran", "w").close()
    StarModelTester([[{"values.txt": b"1"}]], Site, Mean, "s3")
"""
DATA = ("--data", "north", "--data", "south")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `mean.py` and the data of two sites, whose mean of means is 4."""
    (tmp_path / "mean.py").write_text(MEAN, encoding="utf-8")
    for name, values in (("north", "1\n2\n3\n"), ("south", "5\n7\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "values.txt").write_text(values, encoding="utf-8")
    return tmp_path


def star(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
    )


def changed(folder: Path, old: str, new: str) -> None:
    """Change the analysis."""
    assert old in MEAN
    (folder / "mean.py").write_text(MEAN.replace(old, new), encoding="utf-8")


# The command itself


def test_the_package_installs_the_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert callable(pkgutil.resolve_name(project["scripts"]["star-actors"]))


def test_help_lists_the_commands_in_the_order_of_use(tmp_path: Path) -> None:
    listed = star(tmp_path, "--help").stdout.partition("\nCommands:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()] == ["new", "run", "check", "report"]


@pytest.mark.parametrize("command", [[], ["new"], ["run"], ["check"], ["report"]])
def test_help_has_examples(tmp_path: Path, command: list[str]) -> None:
    shown = star(tmp_path, *command, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Examples:\n    star-actors " in shown.stdout


def test_help_imports_nothing_that_a_run_needs(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom star_actors.cli.commands import cli\n"
        "cli(['run', '--help'], standalone_mode=False)\nprint(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    loaded = {name.split(".")[0] for name in ran.stderr.split()}
    assert "click" in loaded
    assert not loaded & {"anyio", "asyncio", "msgspec", "numpy", "opendp", "rich"}


def test_the_shell_completes_commands(tmp_path: Path) -> None:
    request = {"_STAR_ACTORS_COMPLETE": "bash_complete", "COMP_WORDS": "star-actors r", "COMP_CWORD": "1"}
    assert star(tmp_path, **request).stdout.split() == ["plain,run", "plain,report"]


def test_the_engines_are_those_of_a_run() -> None:
    assert set(ENGINE_NAMES) == set(ENGINES)


# new


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a new analysis."""
    folder = tmp_path_factory.mktemp("new")
    made = star(folder, "new", "studies/pressure")
    assert (made.returncode, made.stderr) == (0, "")
    return folder / "studies" / "pressure"


def test_a_new_analysis_runs_as_it_is(project: Path) -> None:
    rows = [row for file in project.glob("data/*/*.csv") for row in csv.DictReader(file.read_text().splitlines())]
    mean = sum(float(row["systolic"]) for row in rows) / len(rows)
    ran = star(project, "run", "pressure.py", "--data", "data/node1", "--data", "data/node2", "--quiet")
    assert ran.stdout == f"Final result: {mean}\n"


def test_a_new_analysis_runs_in_rounds_too(project: Path) -> None:
    ran = star(project, "run", "pressure.py", "--data", "data/node1", "--data", "data/node2", "--iterative")
    assert ran.stderr.startswith("Converged after 2 rounds")


def test_a_new_analysis_has_no_findings(project: Path) -> None:
    checked = star(project, "check", "pressure.py", "--data", "data/node1", "--data", "data/node2")
    assert (checked.returncode, checked.stdout) == (0, "pressure.py: nothing found in 1 round on 3 nodes\n")


def test_the_tests_of_a_new_analysis_pass(project: Path) -> None:
    plain = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "star_actors.pytest_plugin"]
    tested = subprocess.run(command, cwd=project, env=plain, capture_output=True, text=True, timeout=100)
    assert "4 passed" in tested.stdout, tested.stdout + tested.stderr


def test_a_new_analysis_bears_its_name_throughout(project: Path) -> None:
    files = [file for file in project.rglob("*") if file.is_file() and file.suffix in (".py", ".csv")]
    assert {file.name for file in files} == {"pressure.py", "test_pressure.py", "patients.csv"}
    assert not any("NAME" in file.read_text(encoding="utf-8") for file in files)


def test_new_takes_the_commands_that_it_prints(tmp_path: Path) -> None:
    printed = star(tmp_path, "new", "pressure").stdout.partition("Next:\n")[2]
    enter, run, *_ = [line.strip() for line in printed.splitlines() if line.strip()]
    assert enter == "cd pressure"
    assert star(tmp_path / "pressure", *run.split()[1:]).returncode == 0


@pytest.mark.parametrize(
    ("name", "advice"),
    [("my-analysis", "such as my_analysis"), ("2nd", "such as my_analysis"), ("class", "Python module"),
     ("json", "such as my_json"), ("test_it", "the name of a test")],
)  # fmt: skip
def test_new_refuses_a_name_that_could_not_be_imported(tmp_path: Path, name: str, advice: str) -> None:
    made = star(tmp_path, "new", name)
    assert made.returncode == Exit.USAGE
    assert advice in made.stderr
    assert list(tmp_path.iterdir()) == []


def test_new_leaves_a_folder_that_holds_something_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "notes.txt").touch()
    assert star(tmp_path, "new", "pressure").returncode == Exit.USAGE
    assert [path.name for path in (tmp_path / "pressure").iterdir()] == ["notes.txt"]


# run: what it prints


def test_a_run_prints_logs_and_the_result_last(folder: Path) -> None:
    ran = star(folder, "run", "mean.py", *DATA)
    assert ran.returncode == 0
    assert "Logs for Analyzer node_1:\nmean of 2\n" in ran.stdout
    assert ran.stdout.endswith("\nFinal result: 4.0\n")


def test_what_is_told_about_a_run_goes_to_standard_error(folder: Path) -> None:
    assert star(folder, "run", "mean.py", *DATA).stderr.startswith("Done in one round  |  ")


def test_a_quiet_run_prints_the_result_only(folder: Path) -> None:
    ran = star(folder, "run", "mean.py", *DATA, "--quiet")
    assert (ran.stdout, ran.stderr) == ("Final result: 4.0\n", "")


def test_output_to_a_pipe_is_plain(folder: Path) -> None:
    changed(folder, "return sum(values)", "raise ValueError")
    ran = star(folder, "run", "mean.py", *DATA)
    assert "\x1b" not in ran.stdout + ran.stderr


def test_an_iterative_run_goes_on_until_it_has_converged(folder: Path) -> None:
    assert star(folder, "run", "mean.py", *DATA, "--iterative").stderr.startswith("Converged after 2 rounds")


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_every_engine_runs_the_file(folder: Path, engine: str) -> None:
    assert star(folder, "run", "mean.py", *DATA, "-q", "--engine", engine).stdout == "Final result: 4.0\n"


def test_the_result_is_written_where_out_says(folder: Path) -> None:
    ran = star(folder, "run", "mean.py", *DATA, "-q", "--output-type", "pickle", "--out", "results/mean.pkl")
    assert ran.stdout == "Final result written to results/mean.pkl\n"
    assert pickle.loads((folder / "results" / "mean.pkl").read_bytes()) == 4.0


def test_fhir_folders_are_read_as_bundles(folder: Path) -> None:
    for name in ("north", "south"):
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": 3}
        (folder / name / "Patient.json").write_text(json.dumps(bundle))
    changed(folder, 'int(line) for line in data[0]["values.txt"].split()', 'data[0]["Patient"]["total"]')
    assert star(folder, "run", "mean.py", *DATA, "-q", "--data-type", "fhir").stdout == "Final result: 3.0\n"


def test_noise_is_added_where_epsilon_and_sensitivity_are_given(folder: Path) -> None:
    ran = star(folder, "run", "mean.py", *DATA, "--epsilon", "1", "--sensitivity", "1000", "--json")
    report = load_report(ran.stdout.encode())
    assert report.privacy is not None
    assert report.result != 4.0


@pytest.mark.parametrize(
    ("given", "value"),
    [("0.5", 0.5), ("true", True), ("True", True), ("null", None), ("[1, 2]", [1, 2]), ("a=b", "a=b"), ("'1'", "1")],
)
def test_an_argument_of_a_class_is_a_literal_or_else_text(folder: Path, given: str, value: object) -> None:
    changed(folder, "+ self.shift", "* (self.shift == " + repr(value) + ")")
    ran = star(folder, "run", "mean.py", *DATA, "-q", "--analyzer-kwarg", f"shift={given}")
    assert ran.stdout == "Final result: 4.0\n"


# run: the report


def test_json_is_all_that_standard_output_holds(folder: Path) -> None:
    changed(
        folder,
        "        values =",
        '        print("printed")\n        __import__("os").write(1, b"raw")\n        values =',
    )
    ran = star(folder, "run", "mean.py", *DATA, "--json")
    assert load_report(ran.stdout.encode()).result == 4.0
    assert "printed" in ran.stderr
    assert "raw" in ran.stderr


def test_json_comes_of_a_run_that_failed_too(folder: Path) -> None:
    changed(folder, "return sum(analysis_results)", "raise ValueError")
    ran = star(folder, "run", "mean.py", *DATA, "--json")
    assert ran.returncode == Exit.FAILED
    assert load_report(ran.stdout.encode()).stop_reason == "failed"


def test_json_of_a_private_run_that_failed_has_no_text_of_logs(folder: Path) -> None:
    changed(folder, "return sum(values)", "raise ValueError")
    ran = star(folder, "run", "mean.py", *DATA, "--json", "--epsilon", "1", "--sensitivity", "1")
    assert ran.returncode == Exit.FAILED
    assert load_report(ran.stdout.encode()).logs
    assert "mean of" not in ran.stdout


def test_json_goes_to_a_file_where_one_is_named(folder: Path) -> None:
    ran = star(folder, "run", "mean.py", *DATA, "--json", "runs/run.json")
    assert ran.stdout.endswith("Final result: 4.0\n")
    assert load_report(folder / "runs" / "run.json").result == 4.0


def test_html_saves_a_page_and_the_json_beside_it(folder: Path) -> None:
    ran = star(folder, "run", "mean.py", *DATA, "--html", "run.html")
    assert "run.html, and run.json" in ran.stderr
    assert (folder / "run.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert load_report(folder / "run.json").result == 4.0


def test_html_is_saved_of_a_run_that_failed(folder: Path) -> None:
    changed(folder, "return sum(values)", "raise ValueError")
    assert star(folder, "run", "mean.py", *DATA, "--html", "run.html").returncode == Exit.FAILED
    assert load_report(folder / "run.json").stop_reason == "failed"


# run: how the classes are found


def test_what_stands_under_the_main_guard_does_not_run(folder: Path) -> None:
    assert star(folder, "run", "mean.py", *DATA).returncode == 0
    assert not (folder / "main_ran").exists()


def test_a_file_that_would_run_a_tester_when_imported_is_refused(folder: Path) -> None:
    changed(folder, 'if __name__ == "__main__":', "if True:")
    ran = star(folder, "run", "mean.py", *DATA)
    assert ran.returncode == Exit.USAGE
    assert "mean.py calls StarModelTester in line 26" in ran.stderr
    assert not (folder / "main_ran").exists()


def test_several_analyzers_are_listed(folder: Path) -> None:
    (folder / "two.py").write_text(f"{MEAN}\n\nclass Other(StarAnalyzer):\n    pass\n", encoding="utf-8")
    ran = star(folder, "run", "two.py", *DATA)
    assert ran.returncode == Exit.USAGE
    assert "two.py has 2 analyzers, Site, Other: say which, as in --analyzer Site" in ran.stderr


def test_one_of_several_analyzers_can_be_named(folder: Path) -> None:
    (folder / "two.py").write_text(f"{MEAN}\n\nclass Other(StarAnalyzer):\n    pass\n", encoding="utf-8")
    assert star(folder, "run", "two.py", *DATA, "-q", "--analyzer", "Site").stdout == "Final result: 4.0\n"


def test_a_name_that_is_not_there_is_answered_with_those_that_are(folder: Path) -> None:
    ran = star(folder, "run", "mean.py", *DATA, "--aggregator", "Median")
    assert ran.returncode == Exit.USAGE
    assert "--aggregator Median is given, and mean.py has no class of that name; it has Mean" in ran.stderr


def test_a_class_that_another_derives_from_does_not_count(folder: Path) -> None:
    changed(folder, "class Mean(StarAggregator)", "class Half(Site):\n    pass\n\n\nclass Mean(StarAggregator)")
    assert star(folder, "run", "mean.py", *DATA, "-q").stdout == "Final result: 4.0\n"


def test_classes_of_a_module_beside_the_file_are_found(folder: Path) -> None:
    (folder / "uses.py").write_text("from mean import Mean, Site\n")
    assert star(folder, "run", "uses.py", *DATA, "-q").stdout == "Final result: 4.0\n"


def test_a_file_without_an_aggregator_is_refused(folder: Path) -> None:
    (folder / "half.py").write_text("from mean import Site\n")
    ran = star(folder, "run", "half.py", *DATA)
    assert ran.returncode == Exit.USAGE
    assert "half.py defines no aggregator" in ran.stderr


def test_a_file_with_the_name_of_a_loaded_module_is_refused(folder: Path) -> None:
    (folder / "mean.py").rename(folder / "json.py")
    ran = star(folder, "run", "json.py", *DATA)
    assert ran.returncode == Exit.USAGE
    assert "give the file another name" in ran.stderr


# run: how it fails


def test_a_failing_node_is_shown_by_its_own_lines(folder: Path) -> None:
    (folder / "south" / "values.txt").write_text("5\nhigh\n")
    ran = star(folder, "run", "mean.py", *DATA)
    assert ran.returncode == Exit.FAILED
    assert "Error: node_1 (default) failed in round 0, in Site.analysis_method: ValueError: " in ran.stderr
    assert 'values = [int(line) for line in data[0]["values.txt"].split()]' in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_traceback_is_shown_where_it_is_asked_for(folder: Path) -> None:
    (folder / "south" / "values.txt").write_text("5\nhigh\n")
    ran = star(folder, "run", "mean.py", *DATA, "--traceback")
    assert ran.returncode == Exit.FAILED
    assert ran.stderr.count("Traceback (most recent call last):") == 2


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("def f(x):\n    return 1 / x\n\nf(0)\n", ["line 4, in <module>", "line 2, in f", "ZeroDivisionError: "]),
        ("def f(:\n", ["line 1", "SyntaxError: "]),
        ("raise SystemExit('stop')\n", ["line 1, in <module>", "SystemExit: stop"]),
        ("import no_such_module\n", ["ModuleNotFoundError: No module named 'no_such_module'"]),
    ],
)
def test_a_file_that_cannot_be_loaded_is_shown_by_its_own_lines(folder: Path, code: str, shown: list[str]) -> None:
    (folder / "broken.py").write_text(code)
    ran = star(folder, "run", "broken.py", *DATA)
    assert ran.returncode == Exit.FAILED
    assert ran.stderr.startswith("Error: broken.py cannot be loaded:\n")
    assert [part for part in [*shown, "broken.py"] if part not in ran.stderr] == []
    assert "star_actors" not in ran.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["mean.py"], "no --data is given, a folder for each node is wanted: --data north --data south"),
        (["mean.py", "--data", "west"], "folder 'west' does not exist"),
        (["none.py", *DATA], "File 'none.py' does not exist"),
        (["north/values.txt", *DATA], "a Python file with a name such as my_analysis.py is wanted"),
        (["mean.py", *DATA, "--max-iterations", "3"], "--max-iterations goes with --iterative"),
        (["mean.py", *DATA, "--epsilon", "1"], "epsilon is given without sensitivity"),
        (["mean.py", *DATA, "--engine", "warp"], "'warp' is not one of"),
        (["mean.py", *DATA, "--analyzer-kwarg", "shift"], "KEY=VALUE is wanted"),
        (["mean.py", *DATA, "--analyzer-kwarg", "a=1", "--analyzer-kwarg", "a=2"], "gives a twice"),
        (["mean.py", *DATA, "--analyzer-kwarg", "rate=1"], "its constructor takes (flame, shift=0)"),
        (["mean.py", *DATA, "--html", "run.txt"], "a path that ends in .html or .htm is wanted"),
        (["mean.py", *DATA, "--json", "south"], "a path that ends in .json is wanted"),
        (["mean.py", *DATA, "--html", "a.html", "--out", "a.json"], "give the result a file of its own"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_runs(folder: Path, options: list[str], text: str) -> None:
    before = sorted(folder.rglob("*.*"))
    ran = star(folder, "run", *options, PYTHONDONTWRITEBYTECODE="1")
    assert (ran.returncode, ran.stdout) == (Exit.USAGE, "")
    assert text in " ".join(ran.stderr.split())
    assert sorted(folder.rglob("*.*")) == before


@pytest.mark.parametrize(
    ("old", "new", "options", "code"),
    [
        ("result == last_result", "False", ["--iterative", "--max-iterations", "3"], Exit.NOT_CONVERGED),
        ("result == last_result", "False", ["--iterative", "--timeout", "0.2"], Exit.NOT_CONVERGED),
        ("return sum(analysis_results)", "return 'text'  #", ["--epsilon", "1", "--sensitivity", "1"], Exit.PRIVACY),
        ("mean of", "mean of", ["--output-type", "bytes"], Exit.DELIVERY),
    ],
)
def test_the_exit_code_says_how_a_run_ended(folder: Path, old: str, new: str, options: list[str], code: Exit) -> None:
    changed(folder, old, new)
    ran = star(folder, "run", "mean.py", *DATA, *options)
    assert ran.returncode == code, ran.stderr
    assert "\nError: " in ran.stderr


def test_a_report_that_cannot_be_saved_is_an_error_of_its_own(folder: Path) -> None:
    changed(folder, "return sum(analysis_results)", 'open("runs", "w").close()\n        return sum(analysis_results)')
    ran = star(folder, "run", "mean.py", *DATA, "--html", "runs/run.html")
    assert ran.returncode == Exit.DELIVERY
    assert ran.stdout.endswith("Final result: 4.0\n")
    assert "Error: runs/run.html could not be written: " in ran.stderr


def test_ctrl_c_ends_a_run(folder: Path) -> None:
    changed(folder, "result == last_result", "False")
    command = [*COMMAND, "run", "mean.py", *DATA, "--iterative"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "--- Starting Iteration 0 ---\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == Exit.STOPPED
    assert told.endswith("Stopped.\n")
    assert "Traceback" not in told


# check


def test_check_lists_findings_in_a_table_and_fails(folder: Path) -> None:
    changed(folder, 'log_type="notice"', 'log_type="loud"')
    checked = star(folder, "check", "mean.py", *DATA)
    headline, empty, titles, row = checked.stdout.splitlines()
    assert checked.returncode == Exit.FAILED
    assert (headline, empty) == ("mean.py: 1 finding in 1 round on 3 nodes", "")
    column = titles.index("what")
    assert row.startswith("log-error  node_")
    assert row[column:].startswith("flame_log(log_type='loud')")


def test_the_table_of_findings_fits_on_a_terminal(folder: Path) -> None:
    changed(folder, 'log_type="notice"', 'log_type="loud"')
    leader, follower = os.openpty()
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        environment = {**os.environ, "COLUMNS": "70", "NO_COLOR": "1"}
        command = [*COMMAND, "check", "mean.py", *DATA]
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=follower, stderr=follower):
            os.close(follower)
            printed = b""
            with contextlib.suppress(OSError):  # Linux's way to say that nobody writes there any more
                while chunk := terminal.read(4096):
                    printed += chunk
    lines = printed.decode().splitlines()
    assert any("flame_log(log_type='loud')" in line for line in lines)
    assert max(map(len, lines)) <= 70


def test_check_finds_nothing_in_a_sound_analysis(folder: Path) -> None:
    checked = star(folder, "check", "mean.py", *DATA)
    assert (checked.returncode, checked.stdout) == (0, "mean.py: nothing found in 1 round on 3 nodes\n")


def test_check_of_a_failing_analysis_ends_as_its_run_does(folder: Path) -> None:
    changed(folder, "return sum(values)", "raise ValueError")
    checked = star(folder, "check", "mean.py", *DATA)
    assert (checked.returncode, checked.stdout) == (Exit.FAILED, "")
    assert "failed in round 0" in checked.stderr


# report


def test_report_shows_what_was_saved(folder: Path) -> None:
    star(folder, "run", "mean.py", *DATA, "--json", "run.json")
    shown = star(folder, "report", "run.json")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == f"{load_report(folder / 'run.json')}\n"


def test_report_makes_a_page_of_what_was_saved(folder: Path) -> None:
    star(folder, "run", "mean.py", *DATA, "--json", "run.json")
    assert star(folder, "report", "run.json", "--html", "page.html").returncode == 0
    assert (folder / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_file_that_holds_no_report_is_refused(folder: Path) -> None:
    shown = star(folder, "report", "mean.py")
    assert shown.returncode == Exit.USAGE
    assert "holds no report" in shown.stderr


# The page of the docs


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `star-actors`, `python` and `pytest` are this interpreter's."""
    folder = tmp_path_factory.mktemp("bin")
    for name, module in (("star-actors", "-m star_actors.cli"), ("python", ""), ("pytest", "-m pytest")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
        script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}


def test_the_page_of_the_docs_shows_what_its_commands_print(tmp_path: Path, shell: dict[str, str]) -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    sessions = [block.code for block in blocks_of(page) if block.code.startswith("$ ")]
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(sessions), re.MULTILINE)
    assert len(steps) > 10
    folder, code = tmp_path, 0
    for command, shown in steps:
        script = f"(exit {code})\n{command}\ncode=$?\npwd > {tmp_path}/.folder\nexit $code"
        ran = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", timeout=60,
        )  # fmt: skip
        folder, code = Path((tmp_path / ".folder").read_text().strip()), ran.returncode
        wanted = ".*".join(map(re.escape, shown.split("...")))
        assert re.fullmatch(wanted, ran.stdout, re.DOTALL), f"$ {command}\n{ran.stdout}"
