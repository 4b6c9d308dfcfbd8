"""Cox regression over eighteen institutions, stratified by institution: the fit of the pooled data.

Run it with `python examples/cox_regression.py`; it needs `pip install -e '.[examples]'`.

The data are the NCCTG lung cancer study, which lifelines ships with the institution of each patient: every institution
is a node and a stratum with a baseline hazard of its own. Only patients at one institution are then compared with each
other, so that the partial likelihood is a sum over institutions, and so are its gradient and its Hessian.
Ties are handled as in Efron (1977), as lifelines does.

This script takes the rounds as they end, which a live plot or an early stop would do too.
"""

import asyncio
import io
from typing import Any

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.datasets import load_lung
from numpy.typing import NDArray

from star_actors import AsyncStarModelTester, StarAggregator, StarAnalyzer

Array = NDArray[np.float64]

COVARIATES = ["age", "sex", "ph.ecog"]


class Institution(StarAnalyzer):
    """Sends its log partial likelihood with gradient and Hessian, at the current coefficients."""

    def analysis_method(
        self, data: list[dict[str, bytes]], aggregator_results: dict[str, Any] | None
    ) -> dict[str, Any]:
        patients = pd.read_csv(io.BytesIO(data[0]["patients.csv"]))
        coefficients = np.zeros(len(COVARIATES)) if aggregator_results is None else aggregator_results["coefficients"]
        return partial_likelihood(
            patients[COVARIATES].to_numpy(dtype=float),
            patients["time"].to_numpy(),
            patients["status"].to_numpy() == 1,
            coefficients,
        )


class NewtonSteps(StarAggregator):
    """Adds up what the institutions send, and takes a Newton step."""

    def aggregation_method(self, analysis_results: list[dict[str, Any]]) -> dict[str, Any]:
        likelihood, gradient, hessian = (
            np.sum([result[name] for result in analysis_results], axis=0)
            for name in ("likelihood", "gradient", "hessian")
        )
        before = np.zeros(len(gradient)) if self.latest_result is None else self.latest_result["coefficients"]
        return {
            "coefficients": before - np.linalg.solve(hessian, gradient),
            "standard errors": np.sqrt(np.diag(np.linalg.inv(-hessian))),
            "log-likelihood": float(likelihood),
        }

    def has_converged(self, result: dict[str, Any], last_result: dict[str, Any] | None) -> bool:
        if last_result is None:
            return False
        return bool(np.abs(result["coefficients"] - last_result["coefficients"]).max() < 1e-9)


def partial_likelihood(x: Array, time: Array, died: NDArray[np.bool_], coefficients: Array) -> dict[str, Any]:
    """The log partial likelihood of one stratum with covariates `x` (n, p), its gradient (p,) and Hessian (p, p)."""
    likelihood, gradient, hessian = 0.0, np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1]))
    hazard = np.exp(x @ coefficients)
    for day in np.unique(time[died]):
        dying, at_risk = (time == day) & died, time >= day
        likelihood += float((x[dying] @ coefficients).sum())
        gradient += x[dying].sum(axis=0)
        for k in range(dying.sum()):
            # Of the tied deaths, k are over on average: they count that much less among those at risk.
            weight = hazard * (at_risk - k / dying.sum() * dying)
            total = weight.sum()
            mean = weight @ x / total
            likelihood -= float(np.log(total))
            gradient -= mean
            hessian -= (x.T * weight) @ x / total - np.outer(mean, mean)
    return {"likelihood": likelihood, "gradient": gradient, "hessian": hessian}


def pooled_fit(patients: pd.DataFrame) -> CoxPHFitter:
    """What lifelines finds with all patients in one place."""
    return CoxPHFitter().fit(patients, "time", "status", strata=["inst"], fit_options={"precision": 1e-10})


async def main() -> None:
    patients = load_lung()[["inst", "time", "status", *COVARIATES]].dropna()
    institutions = [part for _, part in patients.groupby("inst")]
    print("Patients per institution:", *(len(part) for part in institutions), end="\n\n")

    async with AsyncStarModelTester(
        data_splits=[[{"patients.csv": part.to_csv(index=False).encode()}] for part in institutions],
        analyzer=Institution,
        aggregator=NewtonSteps,
        data_type="s3",
        simple_analysis=False,
    ) as tester:
        async for round in tester:
            print(f"Round {round.number}: log-likelihood {round.aggregate['log-likelihood']:.6f}")

    federated, pooled = tester.result, pooled_fit(patients)
    print(f"\n{'':<10}{'coefficient':>26}{'standard error':>26}")
    print(f"{'covariate':<10}{'federated':>14}{'pooled':>12}{'federated':>14}{'pooled':>12}")
    for i, name in enumerate(COVARIATES):
        ours = federated["coefficients"][i], federated["standard errors"][i]
        theirs = pooled.params_[name], pooled.standard_errors_[name]
        print(f"{name:<10}{ours[0]:>14.8f}{theirs[0]:>12.8f}{ours[1]:>14.8f}{theirs[1]:>12.8f}")
    difference = np.abs(federated["coefficients"] - pooled.params_.to_numpy()).max()
    print(f"\nRounds: {len(tester.report.rounds)}, largest difference of a coefficient: {difference:.1e}")


if __name__ == "__main__":
    asyncio.run(main())
