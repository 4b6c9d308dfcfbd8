"""How many patients have type 2 diabetes? Counted over FHIR bundles of three hospitals, released with noise.

Run it with `python examples/patient_count.py`. It needs nothing beyond star_actors itself.

Each hospital counts its own patients; the sum gets Laplace noise from OpenDP and only then is released. One patient
more or less changes the sum by at most 1, if no patient is at two hospitals: that is the sensitivity. The noise has the
scale sensitivity / epsilon, so that whoever reads the released number cannot tell whether a given person was counted.
Hospitals and aggregator do see exact counts; Privacy(noise_at=...) has placements that cover those too.

The bundles are made up, in the shape that FLAME hands over: one dict for each FHIR server, a bundle for each query.
"""

import math
import random
from typing import Any

from star_actors import StarAggregator, StarAnalyzer, StarModelTester

QUERY = "Condition?code=http://snomed.info/sct|44054006&_count=1000"
DIABETES = ("http://snomed.info/sct", "44054006")
ASTHMA = ("http://snomed.info/sct", "195967001")

EPSILON = 1.0


class Hospital(StarAnalyzer):
    """Counts the patients that have the diagnosis, each once."""

    def analysis_method(self, data: list[dict[str, dict[str, Any]]], aggregator_results: None) -> int:
        resources = [entry["resource"] for entry in data[0][QUERY].get("entry", [])]
        patients = {
            resource["subject"]["reference"]
            for resource in resources
            if any((coding["system"], coding["code"]) == DIABETES for coding in resource["code"]["coding"])
        }
        return len(patients)


class Total(StarAggregator):
    """Adds the counts up."""

    def aggregation_method(self, analysis_results: list[int]) -> int:
        return sum(analysis_results)

    def has_converged(self, result: int, last_result: int | None) -> bool:
        return True


def made_up_bundle(patients: int, seed: int) -> dict[str, Any]:
    """Diagnoses of made-up patients: some have diabetes on record twice, some have another disease only."""
    chance = random.Random(seed)
    entries = []
    for number in range(patients):
        for system, code in chance.choices([DIABETES, ASTHMA], weights=[1, 4], k=chance.randint(0, 3)):
            condition = {
                "resourceType": "Condition",
                "subject": {"reference": f"Patient/{seed}-{number}"},
                "code": {"coding": [{"system": system, "code": code}]},
            }
            entries.append({"resource": condition})
    return {"resourceType": "Bundle", "type": "searchset", "entry": entries}


def main() -> None:
    hospitals = [made_up_bundle(patients, seed) for seed, patients in enumerate([400, 250, 150], start=1)]

    tester = StarModelTester(
        data_splits=[[{QUERY: bundle}] for bundle in hospitals],
        analyzer=Hospital,
        aggregator=Total,
        data_type="fhir",
        query=QUERY,
        epsilon=EPSILON,
        sensitivity=1.0,
    )

    (release,) = tester.report.privacy.releases
    print(f"Noise: {release.mechanism}, scale {release.scale:g}, epsilon {release.epsilon:g}")
    print(f"With 95 % probability the count lies within {release.scale * math.log(20):.1f} of {tester.result:.1f}.")


if __name__ == "__main__":
    main()
