"""What print(report) shows: a compact table in plain text, whatever a run holds."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from display_runs import TELLING, halfway_report, long_report, report_of

from star_actors import Privacy, Report, Withheld
from star_actors.display.formats import amount, count, duration, number, shown, size, visible
from star_actors.findings import Finding
from star_actors.report import NodeInfo, Output, Summary


async def test_a_run_is_shown_by_its_end_its_rounds_and_its_result() -> None:
    report = await halfway_report()
    text = str(report)
    assert text.startswith("Converged after 11 rounds")
    assert "each round shrinks the change to 0.50 of the one before" in text
    assert f"result    {report.result}" in text
    rows = [line.split() for line in text.splitlines() if line[:5].strip().isdigit()]
    assert [row[0] for row in rows] == [str(i) for i in range(11)]
    assert [row[1:3] for row in rows[:2]] == [["4.5", rows[0][2]], ["5", "0.50"]]


def test_of_many_rounds_the_first_and_the_last_are_shown_and_the_others_counted() -> None:
    lines = str(long_report(10_000, 3)).splitlines()
    assert len(lines) < 30
    assert any(line.split() == ["...", "9,988", "more"] for line in lines)
    assert lines[-1] != ""


def test_the_slowest_node_of_a_round_is_named() -> None:
    assert "node_3  50 ms" in " ".join(str(long_report(3, 5)).split("    "))


def test_printing_needs_neither_rich_nor_numpy() -> None:
    code = (
        "import sys; from star_actors import Report, Round\n"
        "print(Report(rounds=[Round(i, 0.5 ** i, 0.1, {'node_0': 0.1}, 1, 1) for i in range(9)]))\n"
        "assert not {'rich', 'numpy', 'matplotlib', 'IPython'} & set(sys.modules), sorted(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Report(), "Not started"),
        (Report(nodes=[NodeInfo("node_0", "default")]), "Under way, 0 rounds finished"),
        (report_of([1.0], "single round"), "Done in one round"),
        (report_of([1.0, 2.0], "max_iterations"), "Not converged after 2 rounds (max_iterations)"),
        (report_of([1.0], "timeout"), "Over its time after 1 round"),
        (report_of([], "failed"), "Failed after 0 rounds"),
        (report_of([1.0], "stopped"), "Stopped after 1 round"),
        (report_of([1.0], "budget"), "Privacy budget spent after 1 round"),
        (report_of([1.0], result=5.0), "result    5.0"),
        (report_of([1.0], result=5.0, outputs=[Output("pickle", b"x", Path("out.pkl"))]), "written   out.pkl (pickle)"),
        (report_of([np.array([3.0, 4.0])]), "norm 5"),
        (report_of([Withheld()]), "withheld"),
        (report_of([Summary("ndarray", 800), 1.0]), "dropped (ndarray, 800 B)"),
        (report_of(["a"]), "str"),
        (report_of([None]), "None"),
        (report_of([1.0], warnings=["something is odd"]), "warning   something is odd"),
        (report_of([1.0], nodes=[NodeInfo("node_0", "default", stuck=True)]), "stuck     node_0"),
    ],
)
def test_what_a_report_holds_is_said(report: Report, words: str) -> None:
    assert words in str(report)


def test_what_many_nodes_share_is_said_once() -> None:
    findings = [Finding("log-error", "it is", "change it", f"node_{i}", 2) for i in range(1000)]
    text = str(report_of([1.0], findings=findings))
    assert "finding   log-error (node_0, node_1, node_2, and 997 more, from round 2): it is; change it" in " ".join(
        text.replace("\n          ", " ").splitlines()
    )


async def test_under_privacy_the_account_is_shown_and_nothing_exact() -> None:
    report = await halfway_report(data_splits=TELLING, privacy=Privacy(epsilon=1e-9, sensitivity=1.0))
    text = str(report)
    assert "privacy   epsilon=1e-09" in text
    assert "withheld" in text
    assert "765432" not in text


def test_a_prompt_shows_one_line() -> None:
    assert repr(report_of([1.0, 2.0])) == "<Report: Converged after 2 rounds, 2 nodes, 100 ms>"


class Unshowable:
    def __repr__(self) -> str:
        raise SystemExit("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.46875, "5.46875"),
        (np.float64(0.5), "0.5"),
        ("a\nb", "'a\\nb'"),
        (np.array([1.0, 2.0]), "array([1., 2.])"),
        (Unshowable(), "<Unshowable, whose repr raised SystemExit>"),
        ([Unshowable()], "<list, whose repr raised SystemExit>"),
    ],
)
def test_a_value_is_shown_in_one_line(value: Any, text: str) -> None:
    assert shown(value) == text


def test_a_large_value_is_shown_short() -> None:
    assert len(shown(list(range(10**6)))) <= 200
    assert len(shown("a" * 10**6)) <= 200
    assert len(shown(np.zeros((500, 500)), 50)) == 50


def test_figures_are_written_with_their_units() -> None:
    assert [duration(s) for s in (0, 0.0000234, 0.00123, 0.999, 1.234, 59.96, 125, 7500)] == [
        "0 ms", "0.023 ms", "1.23 ms", "999 ms", "1.23 s", "1 min 00 s", "2 min 05 s", "2 h 05 min",
    ]  # fmt: skip
    assert [size(n) for n in (0, 48, 999, 1000, 1_234_567, 10**15)] == [
        "0 B", "48 B", "999 B", "1 kB", "1.23 MB", "1e+03 TB",
    ]  # fmt: skip
    assert [amount(x) for x in (None, 0.0, 0.5, 25.0, 3.14e-5)] == ["", "0", "0.50", "25", "3.1e-05"]
    assert [count(n, "round") for n in (0, 1, 10_000)] == ["0 rounds", "1 round", "10,000 rounds"]
    assert [number(x) for x in (3, 1 / 3, 10**15)] == ["3", "0.333333", "1e+15"]


def test_control_characters_are_written_out() -> None:
    assert visible("a\x1b[31m\x00\ud800\tb\n") == "a\\x1b[31m\\x00\\ud800\tb\n"
