"""Kaplan-Meier survival over eighteen institutions, exactly as on the pooled data.

Run it with `python examples/kaplan_meier.py`; it needs `pip install -e '.[examples]'`.

The data are the 228 patients of the NCCTG lung cancer study, which lifelines ships with the institution that each
patient came from: here every institution is a node. One patient without an institution is left out.

Round 0: each institution sends the distinct days on which its patients died; the aggregator answers with those of all.
Round 1: each sends, for each of these days, how many of its patients died and how many were at risk. The sums are what
the estimator of Kaplan and Meier (1958) needs. Small counts about few people leave their institution here: a real study
would put the days into wider bins first.

This script awaits its run, as code with an event loop of its own does, and prints nothing until the end.
"""

import asyncio
import io

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from lifelines.datasets import load_lung
from numpy.typing import NDArray

from star_actors import AsyncStarModelTester, StarAggregator, StarAnalyzer

Array = NDArray[np.float64]


class Institution(StarAnalyzer):
    """Counts its own deaths and patients at risk."""

    def analysis_method(self, data: list[dict[str, bytes]], aggregator_results: Array | None) -> Array:
        patients = pd.read_csv(io.BytesIO(data[0]["patients.csv"]))
        time, died = patients["time"].to_numpy(dtype=float), patients["status"].to_numpy() == 1
        if aggregator_results is None:
            return np.unique(time[died])
        days = aggregator_results[:, np.newaxis]
        deaths = ((time == days) & died).sum(axis=1)
        at_risk = (time >= days).sum(axis=1)
        return np.array([deaths, at_risk], dtype=float)


class Curve(StarAggregator):
    """Merges the days, then multiplies up the survival."""

    def aggregation_method(self, analysis_results: list[Array]) -> Array:
        if self.num_iterations == 0:
            self.days = np.unique(np.concatenate(analysis_results))
            return self.days
        deaths, at_risk = np.sum(analysis_results, axis=0)
        return np.array([self.days, np.cumprod(1 - deaths / at_risk)])

    def has_converged(self, result: Array, last_result: Array | None) -> bool:
        return self.num_iterations == 1


def pooled_fit(patients: pd.DataFrame, days: Array) -> Array:
    """The survival on `days` that lifelines finds with all patients in one place."""
    fit = KaplanMeierFitter().fit(patients["time"], patients["status"])
    survival: Array = fit.survival_function_at_times(days).to_numpy()
    return survival


async def main() -> None:
    patients = load_lung().dropna(subset="inst")[["inst", "time", "status"]]
    institutions = [part for _, part in patients.groupby("inst")]
    print("Patients per institution:", *(len(part) for part in institutions))

    report = await AsyncStarModelTester(
        data_splits=[[{"patients.csv": part.to_csv(index=False).encode()}] for part in institutions],
        analyzer=Institution,
        aggregator=Curve,
        data_type="s3",
        simple_analysis=False,
    )

    days, federated = report.result
    pooled = pooled_fit(patients, days)
    print(f"\n{'day':>5}{'federated':>12}{'pooled':>12}")
    for i in np.searchsorted(days, range(100, 900, 100), side="right") - 1:
        print(f"{days[i]:>5.0f}{federated[i]:>12.6f}{pooled[i]:>12.6f}")
    print(f"\nMedian survival: {days[federated <= 0.5][0]:.0f} days")
    print(f"Rounds: {len(report.rounds)}, largest difference: {np.abs(federated - pooled).max():.1e}")


if __name__ == "__main__":
    asyncio.run(main())
