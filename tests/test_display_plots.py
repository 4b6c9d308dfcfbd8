"""report.plot(): a figure of its own, which touches no global state."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from display_runs import halfway_report, long_report, report_of

from star_actors import ConfigurationError, Privacy, Report, Withheld


def titles(report: Report) -> list[str]:
    return [axes.get_title(loc="left") for axes in report.plot().get_axes()]


async def test_each_number_has_axes_of_its_own_beside_change_times_and_bytes() -> None:
    report = report_of([{"beta": [1.0 + 0.5**i, 800.0], "loss": 0.5**i} for i in range(9)])
    assert titles(report) == [
        "beta[0]", "beta[1]", "loss", "Change per round", "Time per node, slowest in all: node_0", "Bytes",
    ]  # fmt: skip


async def test_the_lines_are_the_rounds_of_the_report() -> None:
    report = await halfway_report()
    value, change = report.plot().get_axes()[:2]
    assert value.lines[0].get_ydata() == pytest.approx([r.aggregate for r in report.rounds])
    assert change.lines[0].get_ydata() == pytest.approx([0.5**k for k in range(1, 11)])
    assert change.get_yscale() == "log"


def test_of_more_numbers_than_fit_the_first_are_drawn_and_the_others_counted() -> None:
    axes = report_of([np.arange(100.0) + i for i in range(5)]).plot().get_axes()
    assert len(axes) == 8 + 3
    assert axes[7].get_xlabel() == "round, the first 8 of 100 numbers"


def test_of_very_many_rounds_a_part_is_drawn_and_that_is_said() -> None:
    figure = long_report(5_000, 20).plot()
    assert "1,000 of 5,000 rounds are drawn" in figure.get_suptitle()
    assert len(figure.get_axes()[0].lines[0].get_xdata()) == 1_000  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "report",
    [
        report_of([1.0], "single round"),
        report_of(["a", "b"]),
        report_of([1.0] * 5),
        report_of([1.0, math.nan, math.inf]),
        report_of([Withheld()] * 5),
        report_of([{"a": 1.0}, [1.0], np.zeros(3)]),
    ],
)
def test_every_report_with_a_round_is_drawn(report: Report, tmp_path: Path) -> None:
    report.plot().savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5_000


async def test_under_privacy_no_number_of_the_aggregate_is_drawn() -> None:
    report = await halfway_report(privacy=Privacy(epsilon=1e-9, sensitivity=1.0))
    value, change = report.plot().get_axes()[:2]
    assert len(value.lines) == len(change.lines) == 0


def test_a_report_without_a_round_says_so() -> None:
    with pytest.raises(ConfigurationError, match="no finished round"):
        Report().plot()


def test_a_notebook_shows_the_figure_and_pyplot_does_not_know_of_it() -> None:
    code = (
        "import sys; from star_actors import Report, Round\n"
        "figure = Report(rounds=[Round(i, 0.5 ** i, 0.1, {}, 1, 1) for i in range(9)]).plot()\n"
        "assert figure._repr_png_().startswith(b'\\x89PNG')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_without_matplotlib_the_error_names_the_extra() -> None:
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'matplotlib': raise ModuleNotFoundError('none', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from star_actors import ConfigurationError, Report, Round\n"
        "try: Report(rounds=[Round(0, 1.0, 0.1, {}, 1, 1)]).plot()\n"
        "except ConfigurationError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'star-actors[plots]'" in ran.stdout, ran.stderr
