"""Logistic regression over five hospitals by federated Newton steps: the coefficients of the pooled data.

Run it with `python examples/logistic_regression.py`; it needs `pip install -e '.[examples]'`.

The data are the 569 breast tumours of the Wisconsin diagnostic data set, which scikit-learn ships, dealt out to five
hospitals of unequal size, each with a CSV file as FLAME would hand it over from S3. The model is scikit-learn's: an L2
penalty with C = 1, the intercept unpenalised, features scaled to mean 0 and variance 1. (Without a penalty this data
set has no optimum: a plane separates its classes.)

Round 0: each hospital sends its number of rows and, for each feature, the sum and the sum of squares; from these follow
the means and standard deviations of all rows.
Round 1 and later: each hospital sends the gradient and the Hessian of its log-likelihood at the current coefficients.
Both are sums over rows, so their sums over the hospitals are those of the pooled data, and so is the Newton step.
"""

import io
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from star_actors import StarAggregator, StarAnalyzer, StarModelTester
from star_actors.data import split

Array = NDArray[np.float64]

C = 1.0  # inverse strength of the penalty, as scikit-learn has it


class Hospital(StarAnalyzer):
    """Sends sums over its rows; keeps the rows themselves."""

    def analysis_method(self, data: list[dict[str, bytes]], aggregator_results: Array | None) -> dict[str, Any]:
        if aggregator_results is None:
            self.features, self.malignant = read(data[0]["tumours.csv"])
            return {
                "rows": len(self.features),
                "sums": self.features.sum(axis=0),
                "squares": (self.features**2).sum(axis=0),
            }
        if self.num_iterations == 1:
            means, deviations = aggregator_results
            self.x = with_intercept((self.features - means) / deviations)
            coefficients = np.zeros(self.x.shape[1])
        else:
            coefficients = aggregator_results
        probability = 1 / (1 + np.exp(-self.x @ coefficients))
        weight = probability * (1 - probability)
        return {
            "gradient": self.x.T @ (self.malignant - probability),
            "hessian": -(self.x.T * weight) @ self.x,
        }


class NewtonSteps(StarAggregator):
    """Adds up what the hospitals send, and takes a Newton step."""

    def __init__(self, flame: Any, tolerance: float) -> None:
        super().__init__(flame)
        self.tolerance = tolerance

    def aggregation_method(self, analysis_results: list[dict[str, Any]]) -> Array:
        total = {name: np.sum([result[name] for result in analysis_results], axis=0) for name in analysis_results[0]}
        if self.num_iterations == 0:
            means = total["sums"] / total["rows"]
            deviations = np.sqrt(total["squares"] / total["rows"] - means**2)
            return np.array([means, deviations])
        penalty = np.full(len(total["gradient"]), 1 / C)
        penalty[0] = 0
        coefficients = self.latest_result if self.num_iterations > 1 else np.zeros(len(penalty))
        gradient = total["gradient"] - penalty * coefficients
        hessian = total["hessian"] - np.diag(penalty)
        return coefficients - np.linalg.solve(hessian, gradient)

    def has_converged(self, result: Array, last_result: Array | None) -> bool:
        if last_result is None or self.num_iterations < 2:
            return False
        return bool(np.abs(result - last_result).max() < self.tolerance)


def read(csv: bytes) -> tuple[Array, Array]:
    """The features (n, 30) of a hospital's rows, and 1.0 for each malignant one (n,)."""
    table = pd.read_csv(io.BytesIO(csv))
    return table.drop(columns="malignant").to_numpy(), table["malignant"].to_numpy(dtype=float)


def with_intercept(x: Array) -> Array:
    return np.column_stack([np.ones(len(x)), x])


def pooled_fit(table: pd.DataFrame) -> Array:
    """The coefficients that scikit-learn finds with all rows in one place, the intercept first."""
    scaled = StandardScaler().fit_transform(table.drop(columns="malignant"))
    fit = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10).fit(scaled, table["malignant"])
    return np.concatenate([fit.intercept_, fit.coef_[0]])


def main() -> None:
    tumours: Any = load_breast_cancer(as_frame=True)
    table = tumours.data.assign(malignant=1 - tumours.target)
    parts = split(table, 5, how="size", alpha=5.0, seed=1)
    print("Rows per hospital:", *(len(part) for part in parts))

    tester = StarModelTester(
        data_splits=[[{"tumours.csv": part.to_csv(index=False).encode()}] for part in parts],
        analyzer=Hospital,
        aggregator=NewtonSteps,
        data_type="s3",
        simple_analysis=False,
        aggregator_kwargs={"tolerance": 1e-9},
    )

    federated, pooled = tester.result, pooled_fit(table)
    print(f"\n{'coefficient':<26}{'federated':>14}{'pooled':>14}{'difference':>13}")
    for name, ours, theirs in zip(["intercept", *tumours.feature_names], federated, pooled, strict=True):
        print(f"{name:<26}{ours:>14.8f}{theirs:>14.8f}{ours - theirs:>13.1e}")
    print(f"\nRounds: {len(tester.report.rounds)}, largest difference: {np.abs(federated - pooled).max():.1e}")


if __name__ == "__main__":
    main()
