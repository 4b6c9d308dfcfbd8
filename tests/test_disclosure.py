"""What contributions give away of the rows that they were computed from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from analyses import LocalMean, aggregator, analyzer, report_of

from star_actors import Checks, Privacy, Report
from star_actors.checks.rows import rows_of, single
from star_actors.findings import Finding

DRAW = random.Random(1)
VALUES = [[round(DRAW.gauss(50, 9), 3) for _ in range(size)] for size in (30, 40)]
COUNTS = aggregator(aggregation_method=lambda self, results: float(len(results)))


def disclosures(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind == "disclosure"]


def sent(splits: Any, payload: Any, **options: Any) -> list[Finding]:
    """What is found where each node sends `payload(data)`."""
    probe = analyzer(lambda self, data, last: payload(data))
    return disclosures(report_of(splits, probe, options.pop("hub", COUNTS), **options))


def bundle(patients: int) -> list[dict[str, Any]]:
    entries = [{"resource": {"resourceType": "Patient", "id": f"pat-{i}", "gender": "female"}} for i in range(patients)]
    return [{"Patient?_count=100": {"resourceType": "Bundle", "type": "searchset", "entry": entries}}]


FRAMES = [pd.DataFrame({"patient_id": range(n * 1000, n * 1000 + 20), "age": range(30, 50)}) for n in (1, 2)]


class TestRows:
    def test_the_rows_themselves_are_found_with_node_round_and_path(self) -> None:
        first, second = sent(VALUES, lambda data: {"raw": list(data)})
        assert (first.node_id, first.round, first.path) == ("node_0", 0, 'contribution["raw"]')
        assert second.node_id == "node_1"
        assert "holds the values of the node's own rows" in first.message

    def test_in_another_order_too(self) -> None:
        assert "own rows" in sent(VALUES, lambda data: sorted(data))[0].message

    def test_one_value_for_each_row_is_found(self) -> None:
        assert "as long as the node has rows" in sent(VALUES, lambda data: [x * 2 for x in data])[0].message

    def test_some_of_the_rows_are_found(self) -> None:
        assert "some of the node's own rows" in sent(VALUES, lambda data: data[3:9])[0].message

    def test_one_record_is_found(self) -> None:
        splits = [np.arange(60.0).reshape(20, 3) + 0.5, np.arange(60.0).reshape(20, 3) + 100.5]
        assert "some of the node's own rows" in sent(splits, lambda data: data[7])[0].message

    @pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
    def test_a_column_of_a_frame_is_found(self, frame: Any) -> None:
        splits = [frame({"age": values, "bmi": values[::-1]}) for values in VALUES]
        assert len(sent(splits, lambda data: data["age"].to_numpy())) == 2

    def test_a_frame_itself_is_found(self) -> None:
        assert any(finding.path == "contribution" for finding in sent(FRAMES, lambda data: data))

    def test_rows_in_a_file_are_found(self) -> None:
        lines = [b"age,bmi"] + [f"{a},{b}".encode() for a, b in zip(VALUES[0], VALUES[0][::-1], strict=True)]
        splits = [[{"a.csv": b"\n".join(lines)}]] * 2
        assert "own rows" in sent(splits, lambda data: list(VALUES[0]))[0].message

    def test_sums_and_coefficients_are_not(self) -> None:
        assert sent(VALUES, lambda data: {"sum": sum(data), "n": len(data), "beta": np.array([0.5, 1.5, 2.5])}) == []

    def test_what_goes_to_a_peer_counts_too(self) -> None:
        def analyze(self: Any, data: Any, last: Any) -> float:
            peer = "node_1" if self.id == "node_0" else "node_0"
            self.flame.send_message([peer], "all", {"values": data})
            return 1.5

        found = disclosures(report_of(VALUES, analyzer(analyze), COUNTS))
        assert {(finding.node_id, finding.path) for finding in found} == {
            ("node_0", 'message["values"]'),
            ("node_1", 'message["values"]'),
        }


class TestIdentifiers:
    def test_ids_of_fhir_resources_are_found(self) -> None:
        found = sent([bundle(9), bundle(12)], lambda data: {"oldest": "pat-3"}, data_type="fhir")
        assert [finding.path for finding in found] == ['contribution["oldest"]'] * 2

    def test_no_text_names_the_identifier(self) -> None:
        found = sent([bundle(9), bundle(12)], lambda data: {"pat-3": 0.5}, data_type="fhir")
        assert found[0].path == "contribution[<key 0>]"
        assert not [f for f in found if "pat-3" in f.message + f.advice + str(f.path)]

    def test_a_key_column_of_text_is_found(self) -> None:
        splits = [[{"name": f"p{i}-{n}", "age": 30.5 + i} for i in range(10)] for n in range(2)]
        assert len(sent(splits, lambda data: {"eldest": data[-1]["name"]})) == 2

    def test_a_key_column_of_numbers_is_found(self) -> None:
        assert "identifiers" in sent(FRAMES, lambda data: data["patient_id"].tolist()[:7])[0].message

    def test_categories_are_not(self) -> None:
        splits = [[{"sex": "fm"[i % 2], "age": 30.5 + i} for i in range(20)] for _ in range(2)]
        assert sent(splits, lambda data: {"f": 10, "m": 10}) == []

    def test_names_of_columns_are_not(self) -> None:
        assert sent(FRAMES, lambda data: {"columns": ["patient_id", "age"], "mean": 39.5}) == []


class TestCells:
    def test_a_count_below_the_threshold_is_found(self) -> None:
        found = sent(VALUES, lambda data: {"ill": 3, "well": 200})
        assert [finding.path for finding in found] == ['contribution["ill"]'] * 2

    def test_the_threshold_is_the_users(self) -> None:
        assert sent(VALUES, lambda data: {"ill": 3}, checks=Checks(min_cell=3)) == []

    def test_zero_turns_it_off(self) -> None:
        assert sent(VALUES, lambda data: {"ill": 1}, checks=Checks(min_cell=0)) == []

    def test_a_table_of_counts_is_found(self) -> None:
        assert len(sent(VALUES, lambda data: np.array([[40, 2], [7, 90]]))) == 2

    def test_a_number_alone_is_one_where_it_can_count_rows(self) -> None:
        assert len(sent([[0.5, 1.5, 2.5], [0.5, 1.5, 2.5]], len)) == 2
        assert sent([0.5, 1.5], lambda data: 3) == []

    @pytest.mark.parametrize(
        "payload", [{"ill": 0}, {"ill": 5}, {"ill": 3.0}, {"ill": True}, {"round": 1}, {"n_features": 3}, [-2, 3, 60]]
    )
    def test_what_is_no_small_count_is_not(self, payload: Any) -> None:
        assert sent(VALUES, lambda data: payload) == []


class TestSites:
    def test_a_site_with_one_patient_is_found(self) -> None:
        (finding,) = sent([bundle(1), bundle(9)], lambda data: 0.5 + len(str(data)), data_type="fhir")
        assert (finding.node_id, finding.path) == ("node_0", "data")

    @pytest.mark.parametrize(
        "data", [[1.5], np.array([1.5]), [{"age": 41.5}], [{"a.csv": b"age\n41.5\n"}], {"age": [41.5]}]
    )
    def test_one_row_is_seen_whatever_the_shape(self, data: Any) -> None:
        assert single(data) == "row"

    @pytest.mark.parametrize(
        "data",
        [[1.5, 2.5], 1.5, None, [], np.array(1.5), [{"a.csv": b"age\n41.5\n42.5"}], [{"a.png": b"x"}], {"age": [1, 2]}],
    )
    def test_other_data_are_not_one_row(self, data: Any) -> None:
        assert single(data) is None

    def test_a_site_with_one_row_is_found(self) -> None:
        found = sent([pd.DataFrame({"age": [41.5]}), FRAMES[1]], lambda data: {"mean": float(data["age"].mean())})
        assert [(finding.node_id, finding.path) for finding in found] == [("node_0", "data")]


class TestAggregates:
    def test_an_aggregate_that_is_one_nodes_is_found(self) -> None:
        found = sent(VALUES, max, hub=aggregator(aggregation_method=lambda self, results: max(results)))
        assert [finding.path for finding in found] == ["aggregate"]
        assert found[0].node_id == ("node_0" if max(VALUES[0]) > max(VALUES[1]) else "node_1")

    def test_arrays_are_compared(self) -> None:
        hub = aggregator(aggregation_method=lambda self, results: results[1])
        found = sent(VALUES, lambda data: np.array([sum(data), sum(x * x for x in data)]), hub=hub)
        assert [finding.node_id for finding in found] == ["node_1"]

    def test_one_list_of_all_contributions_is_found(self) -> None:
        found = sent(VALUES, sum, hub=aggregator(aggregation_method=lambda self, results: list(results)))
        assert "node by node" in found[0].message

    def test_nodes_that_agree_are_not(self) -> None:
        assert sent(VALUES, lambda data: 2.5, hub=aggregator()) == []

    def test_a_mean_is_not(self) -> None:
        assert disclosures(report_of(VALUES, LocalMean)) == []

    def test_one_node_alone_is_not(self) -> None:
        assert sent(VALUES[:1], sum, hub=aggregator()) == []

    def test_a_noised_result_is_not(self) -> None:
        hub = aggregator(aggregation_method=lambda self, results: max(results))
        assert sent(VALUES, max, hub=hub, epsilon=1.0, sensitivity=1.0) == []


class TestRounds:
    def two_rounds(self, first: Any, second: Any) -> list[Finding]:
        probe = analyzer(lambda self, data, last: second(data) if self.num_iterations else first(data))
        hub = aggregator(
            aggregation_method=lambda self, results: self.num_iterations + 0.5,
            has_converged=lambda self, result, last: True,
        )
        return disclosures(report_of(VALUES, probe, hub, simple_analysis=False))

    def test_a_count_that_moves_by_one_is_found(self) -> None:
        found = self.two_rounds(lambda data: {"n": len(data)}, lambda data: {"n": len(data) - 1})
        assert [(finding.round, finding.path) for finding in found] == [(1, 'contribution["n"]')] * 2

    def test_a_sum_that_moves_by_one_rows_value_is_found(self) -> None:
        found = self.two_rounds(lambda data: {"sum": sum(data)}, lambda data: {"sum": sum(data[1:])})
        assert len(found) == 2

    def test_what_moves_by_many_is_not(self) -> None:
        assert self.two_rounds(lambda data: {"n": 100, "b": 0.5}, lambda data: {"n": 50, "b": 0.4}) == []


class TestPrivacy:
    OPTIONS: Any = {"privacy": Privacy(epsilon=1.0, sensitivity=1.0)}

    def report(self, log: Any) -> Report:
        def aggregate(self: Any, results: Any) -> float:
            total = float(sum(results))
            self.flame.flame_log(log(total))
            return total

        return report_of(VALUES, analyzer(lambda self, data, last: sum(data)), aggregator(aggregation_method=aggregate),
                         **self.OPTIONS)  # fmt: skip

    @pytest.mark.parametrize("log", [str, lambda v: f"sum is {v:.2f}.", lambda v: f"({v:.4e})"], ids=["all", "2", "e"])
    def test_a_log_line_that_repeats_the_exact_value_is_found(self, log: Any) -> None:
        assert [(f.node_id, f.path) for f in disclosures(self.report(log))] == [("node_2", "log")]

    def test_other_log_lines_are_not(self) -> None:
        assert disclosures(self.report(lambda value: "round 1 of 10 done after 0.35 s")) == []

    def test_a_line_of_an_analyzer_that_was_sent_it_is_found(self) -> None:
        def analyze(self: Any, data: Any, last: Any) -> float:
            if last is not None:
                self.flame.flame_log(f"got {last}")
            return float(sum(data))

        hub = aggregator(has_converged=lambda self, result, last: True)
        found = disclosures(report_of(VALUES, analyzer(analyze), hub, simple_analysis=False, **self.OPTIONS))
        assert {finding.node_id for finding in found if finding.path == "log"} == {"node_0", "node_1"}

    def test_without_privacy_it_is_not(self) -> None:
        def aggregate(self: Any, results: Any) -> float:
            self.flame.flame_log(str(sum(results)))
            return float(sum(results))

        assert sent(VALUES, sum, hub=aggregator(aggregation_method=aggregate)) == []

    def test_no_finding_holds_a_number_of_the_data(self) -> None:
        report = report_of(
            VALUES,
            analyzer(lambda self, data, last: {data[0]: list(data), "n": 3, "max": max(data)}),
            aggregator(aggregation_method=lambda self, results: max(r["max"] for r in results)),
            simple_analysis=True,
            **self.OPTIONS,
        )
        texts = " ".join(f"{f.message} {f.advice} {f.path}" for f in report.findings)
        assert report.findings
        assert not [value for values in VALUES for value in values if str(value) in texts]

    def test_noised_contributions_are_not_looked_at(self) -> None:
        privacy = Privacy(epsilon=1.0, sensitivity=1.0, noise_at="analyzer")
        hub = aggregator(aggregation_method=lambda self, results: sum(r["n"] for r in results))
        assert sent(VALUES, lambda data: {"n": 3}, hub=hub, privacy=privacy) == []


class TestRowsOf:
    @pytest.mark.parametrize(
        ("data", "count"),
        [
            ([1.5, 2.5], 2),
            (np.zeros((5, 2)), 5),
            ((np.zeros((5, 2)), np.zeros(5)), 5),
            (pd.DataFrame({"a": [1, 2, 3]}), 3),
            (pl.DataFrame({"a": [1, 2, 3]}), 3),
            (pd.Series([1, 2, 3]), 3),
            ({"x": [1, 2], "y": [3, 4]}, 2),
            ([{"a": 1}, {"a": 2}], 2),
            ([[1, 2], [3, 4], [5, 6]], 3),
            ([{"a.csv": b"x,y\n1,2\n3,4\n"}], 2),
            ([{"image.png": b"\x89PNG"}], None),
            (bundle(4), 4),
            ([], 0),
            (None, None),
            (3.5, None),
            ("text", None),
            (np.float64(2), None),
            ({"a": 1}, None),
            ([[1], [2, 3]], None),
            ([np.array(1.0), np.zeros(2)], None),
        ],
    )
    def test_rows_are_counted_whatever_the_shape(self, data: Any, count: int | None) -> None:
        assert rows_of(data).count == count

    def test_patients_are_counted_by_whom_resources_are_about(self) -> None:
        resources = [
            {"resourceType": "Observation", "id": f"o{i}", "subject": {"reference": "Patient/7"}} for i in (1, 2)
        ]
        data = [{"Observation": {"resourceType": "Bundle", "entry": [{"resource": r} for r in resources]}}]
        assert rows_of(data).patients == 1
