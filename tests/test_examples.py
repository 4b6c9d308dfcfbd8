"""The examples are real scripts: each runs alone, without a warning, leaves no file, and prints what it promises."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.datasets import load_lung
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import scale

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?"


@cache
def output_of(script: str) -> str:
    """What an example prints; a warning is an error."""
    return run(sys.executable, "-W", "error", str(EXAMPLES / script))


def run(*command: str) -> str:
    with TemporaryDirectory() as folder:
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110)
        assert (ran.returncode, ran.stderr, list(Path(folder).iterdir())) == (0, "", [])
    return ran.stdout


def table(output: str, columns: int) -> dict[str, list[float]]:
    """The numbers in lines that consist of a name and so many numbers, by name."""
    lines = re.findall(rf"^ *(\S+(?: [a-z]+)*)((?: +{NUMBER}){{{columns}}})$", output, re.MULTILINE)
    return {name: [float(number) for number in numbers.split()] for name, numbers in lines}


def number_after(text: str, output: str) -> float:
    (found,) = re.findall(rf"{re.escape(text)} ({NUMBER})", output)
    return float(found)


def test_every_example_is_listed_in_their_readme() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\]\(([\w.]+)\)", text))
    assert listed >= {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}


# The guide's example


def test_the_quickstart_prints_what_the_guides_example_prints(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "guide.txt").read_text(encoding="utf-8")
    start, end = guide.index("from typing import Any, Optional"), guide.index("Logging and Debugging")
    (tmp_path / "guide.py").write_text(guide[start:end], encoding="utf-8")
    assert output_of("quickstart.py") == run(sys.executable, str(tmp_path / "guide.py"))


def test_the_quickstart_ends_at_exactly_5_46875() -> None:
    assert output_of("quickstart.py").splitlines()[-1] == "Final result: 5.46875"


# Logistic regression


def coefficients() -> NDArray[Any]:
    """The printed table (31, 3): federated, pooled, difference."""
    data: Any = load_breast_cancer()
    rows = table(output_of("logistic_regression.py"), columns=3)
    assert list(rows) == ["intercept", *data.feature_names]
    return np.array(list(rows.values()))


def test_the_logistic_regression_is_split_over_five_hospitals_that_hold_all_rows() -> None:
    (first,) = re.findall(r"^Rows per hospital: ([\d ]+)$", output_of("logistic_regression.py"), re.MULTILINE)
    rows = [int(count) for count in first.split()]
    assert (len(rows), sum(rows)) == (5, 569)


def test_the_federated_coefficients_are_the_pooled_ones() -> None:
    federated, pooled, difference = coefficients().T
    assert np.abs(federated - pooled).max() < 1e-6
    assert np.abs(difference).max() < 1e-6


def test_the_pooled_coefficients_are_those_of_another_solver() -> None:
    features, benign = load_breast_cancer(return_X_y=True)
    fit = LogisticRegression(C=1.0, solver="newton-cg", tol=1e-12).fit(scale(features), 1 - benign)
    assert coefficients()[:, 1] == pytest.approx(np.append(fit.intercept_, fit.coef_), abs=1e-6)


# Survival


def lung() -> pd.DataFrame:
    return load_lung().dropna(subset=["inst"])


def test_the_federated_kaplan_meier_curve_is_the_pooled_one() -> None:
    output = output_of("kaplan_meier.py")
    assert number_after("largest difference:", output) < 1e-12
    rows = {float(day): values for day, values in table(output, columns=2).items() if day.isdigit()}
    assert len(rows) == 8
    pooled = KaplanMeierFitter().fit(lung()["time"], lung()["status"]).survival_function_at_times(list(rows)).to_list()
    assert rows == {day: [survival, survival] for day, survival in zip(rows, np.round(pooled, 6), strict=True)}


def test_the_median_survival_is_the_pooled_one() -> None:
    pooled = KaplanMeierFitter().fit(lung()["time"], lung()["status"]).median_survival_time_
    assert number_after("Median survival:", output_of("kaplan_meier.py")) == pooled


def test_the_federated_cox_regression_is_the_pooled_one() -> None:
    output = output_of("cox_regression.py")
    assert number_after("largest difference of a coefficient:", output) < 1e-6
    covariates = ["age", "sex", "ph.ecog"]
    patients = lung()[["inst", "time", "status", *covariates]].dropna()
    pooled = CoxPHFitter().fit(patients, "time", "status", strata=["inst"], fit_options={"precision": 1e-10})
    rows = table(output, columns=4)
    assert list(rows) == covariates
    for name, row in rows.items():
        b, se = pooled.params_[name], pooled.standard_errors_[name]
        assert row == pytest.approx([b, b, se, se], abs=1e-6)


def test_the_cox_regression_shows_its_rounds_as_they_end() -> None:
    rounds = re.findall(rf"^Round (\d+): log-likelihood ({NUMBER})$", output_of("cox_regression.py"), re.MULTILINE)
    assert [int(number) for number, _ in rounds] == [0, 1, 2, 3, 4]
    likelihoods = [float(value) for _, value in rounds]
    assert likelihoods == sorted(likelihoods)


# A private count


def test_the_patient_count_is_released_with_noise() -> None:
    released = number_after("Final result:", output_of("patient_count.py"))
    # 201 of the made-up patients have the diagnosis. Laplace noise of scale 1 is beyond 40 once in 10^17 runs.
    assert released != 201
    assert abs(released - 201) < 40


def test_the_patient_count_says_how_far_the_noise_reaches() -> None:
    lines = output_of("patient_count.py").splitlines()
    assert lines[1] == "Noise: laplace, scale 1, epsilon 1"
    assert lines[2].startswith("With 95 % probability the count lies within 3.0 of ")
