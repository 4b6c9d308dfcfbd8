"""Splits come apart into records and together again, whatever shape they have, and nothing is changed on the way."""

from __future__ import annotations

import copy
import csv
import io
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_actors import ConfigurationError
from star_actors.studies.csv_rows import merge, read_rows
from star_actors.studies.records import pool_splits, take_apart


def entry(kind: str, own: str, patient: str | None = None) -> dict[str, Any]:
    resource: dict[str, Any] = {"resourceType": kind, "id": own}
    if patient is not None:
        resource["subject"] = {"reference": f"Patient/{patient}"}
    return {"resource": resource}


def bundle(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "total": len(entries), "entry": list(entries)}


def plain(value: Any) -> Any:
    """What compares with ==."""
    if isinstance(value, np.ndarray | pd.Series | pl.Series):
        return value.tolist() if not isinstance(value, pl.Series) else value.to_list()
    if isinstance(value, pd.DataFrame):
        return value.to_dict("split")
    if isinstance(value, pl.DataFrame):
        return value.rows()
    if isinstance(value, tuple):
        return tuple(plain(part) for part in value)
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value


BIRTHS = bundle(entry("Patient", "a"), entry("Patient", "b"))
VALUES = bundle(entry("Observation", "1", "b"), entry("Observation", "2", "a"), entry("Observation", "3", "b"))

# A split, its number of records, itself without record 1, a candidate, itself with the candidate for record 1.
CASES: dict[str, tuple[Any, int, Any, Any, Any]] = {
    "list": ([1, 2, 3], 3, [1, 3], 9, [1, 9, 3]),
    "tuple": ((1, 2, 3), 3, (1, 3), 9, (1, 9, 3)),
    "array": (np.array([[1, 2], [3, 4]]), 2, np.array([[1, 2]]), [5.5, 6], np.array([[1, 2], [5.5, 6]])),
    "arrays in step": (
        (np.array([[1], [2]]), np.array([3, 4])),
        2,
        (np.array([[1]]), np.array([3])),
        ([7], 8),
        (np.array([[1], [7]]), np.array([3, 8])),
    ),
    "lists in step": (([1, 2], [3, 4]), 2, ([1], [3]), (7, 8), ([1, 7], [3, 8])),
    "columns in step": (
        {"x": np.array([1, 2]), "y": [3, 4]},
        2,
        {"x": np.array([1]), "y": [3]},
        {"y": 8, "x": 7},
        {"x": np.array([1, 7]), "y": [3, 8]},
    ),
    "pandas": (
        pd.DataFrame({"x": [1, 2, 3], "y": list("abc")}),
        3,
        pd.DataFrame({"x": [1, 3], "y": list("ac")}),
        {"y": "z", "x": 9},
        pd.DataFrame({"x": [1, 9, 3], "y": list("azc")}),
    ),
    "pandas with labels": (
        pd.DataFrame({"x": [1, 2]}, index=pd.Index(["p", "q"])),
        2,
        pd.DataFrame({"x": [1]}, index=pd.Index(["p"])),
        [9],
        pd.DataFrame({"x": [1, 9]}, index=pd.Index(["p", "q"])),
    ),
    "pandas series": (pd.Series([1, 2]), 2, pd.Series([1]), 9, pd.Series([1, 9])),
    "polars": (
        pl.DataFrame({"x": [1, 2], "y": ["a", "b"]}),
        2,
        pl.DataFrame({"x": [1], "y": ["a"]}),
        (9, "z"),
        pl.DataFrame({"x": [1, 9], "y": ["a", "z"]}),
    ),
    "polars series": (pl.Series([1, 2]), 2, pl.Series([1]), 9, pl.Series([1, 9])),
    "CSV files": (
        [{"a.csv": b"x,y\r\n1,2\r\n"}, {"b.csv": b'x\n"3\n4"\n5'}],
        3,
        [{"a.csv": b"x,y\r\n1,2\r\n"}, {"b.csv": b"x\n5"}],
        "9",
        [{"a.csv": b"x,y\r\n1,2\r\n"}, {"b.csv": b"x\n9\n5"}],
    ),
    "one CSV file": (b"1,2\n3,4\n", 2, b"1,2\n", b"5,6", b"1,2\n5,6\n"),
    "patients": (
        [{"Patient": BIRTHS}, {"Observation": VALUES}],
        2,
        [{"Patient": bundle(entry("Patient", "a"))}, {"Observation": bundle(entry("Observation", "2", "a"))}],
        [entry("Patient", "z")],
        [
            {"Patient": bundle(entry("Patient", "a"), entry("Patient", "z"))},
            {"Observation": bundle(entry("Observation", "2", "a"))},
        ],
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_record_can_be_left_out(kind: str) -> None:
    split, count, without, _, _ = CASES[kind]
    records = take_apart(split, "split")
    assert len(records) == count
    assert plain(records.without(1)) == plain(without)


@pytest.mark.parametrize("kind", CASES)
def test_a_record_can_be_replaced(kind: str) -> None:
    split, _, _, candidate, replaced = CASES[kind]
    assert plain(take_apart(split, "split").replaced(1, candidate)) == plain(replaced)


@pytest.mark.parametrize("kind", CASES)
def test_the_split_itself_stays_as_it_was(kind: str) -> None:
    split, _, _, candidate, _ = CASES[kind]
    before = copy.deepcopy(split)
    records = take_apart(split, "split")
    records.without(0)
    records.replaced(0, candidate)
    pool_splits([split, split])
    assert plain(split) == plain(before)


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind != "patients"])
def test_pooled_splits_have_the_records_of_all(kind: str) -> None:
    split, count, without, _, _ = CASES[kind]
    assert len(take_apart(pool_splits([split, without]), "pooled")) == 2 * count - 1


def test_pooled_bundles_have_the_entries_of_all_and_say_how_many() -> None:
    pooled = pool_splits([[{"Patient": BIRTHS}], [{"Patient": bundle(entry("Patient", "c"))}]])
    assert pooled == [{"Patient": bundle(entry("Patient", "a"), entry("Patient", "b"), entry("Patient", "c"))}]


def test_entries_without_a_patient_are_a_record_each() -> None:
    assert len(take_apart([{"q": bundle(entry("Device", "1"), entry("Device", "2"))}], "split")) == 2


def test_pooled_files_have_one_header_and_the_columns_of_the_first() -> None:
    splits = [[{"a.csv": b"x,y\n1,2"}], [{"a.csv": b"y;x\r\n4;3\r\n"}], [{"a.csv": b"x,y\n"}], [{"a.csv": b""}]]
    assert pool_splits(splits) == [{"a.csv": b"x,y\n1,2\n3,4\r\n"}]


def test_files_that_are_alone_in_their_source_belong_together_whatever_their_names() -> None:
    assert pool_splits([[{"bonn.csv": b"x\n1\n"}], [{"ulm.csv": b"x\n2\n"}]]) == [{"bonn.csv": b"x\n1\n2\n"}]


def test_a_source_of_the_other_kind_is_left_as_it_is() -> None:
    assert pool_splits([[{}, {"a": b"x\n1\n"}], [{}, {"a": b"x\n2\n"}]]) == [{}, {"a": b"x\n1\n2\n"}]


def test_a_split_that_is_none_has_no_records_to_pool() -> None:
    assert pool_splits([[1], None, [2]]) == [1, 2]


def test_an_own_function_may_pool() -> None:
    assert pool_splits([3, 4], pool=sum) == 7


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ([3, 4], "of type int"),
        ([[1], np.array([2])], "different kinds"),
        ([np.ones((2, 2)), np.ones((2, 3))], "different shapes"),
        ([(np.ones(2), np.ones(3))], "not of one length"),
        ([pd.DataFrame({"x": [1]}), pd.DataFrame({"y": [1]})], "columns differ"),
        ([[{"a": b"x\n1"}], [{"a": b"x,z\n1,2"}]], r"also has \['z'\]"),
        ([[{"a": b"x\n1"}], [{"a": b"2\n1"}]], "some have none"),
        ([[{"a": b"\xff\xfe\x00"}]], "not text in UTF-8"),
        ([[{"a": b'{"x": 1}'}]], "not CSV"),
        ([[{"a": b"x\n1", "b": b"x\n1"}], [{"a": b"x\n1", "c": b"x\n1"}]], "names differ"),
        ([[{"a": b"x\n1"}], [{"a": b"x\n1"}, {}]], "numbers of sources"),
    ],
)
def test_what_cannot_be_pooled_is_refused_with_the_way_out(splits: list[Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"(?s){said}.*pool="):
        pool_splits(splits)


def test_a_pool_that_is_no_function_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a function"):
        pool_splits([[1]], pool="rows")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind", [kind for kind in CASES if kind not in ("list", "tuple", "pandas series", "polars series")]
)
def test_a_candidate_of_another_kind_is_refused(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="candidate"):
        take_apart(CASES[kind][0], "split").replaced(0, object())


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=2)))
def test_rows_of_any_text_survive_a_merge(cells: list[list[str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["left", "right"], *cells])
    data = written.getvalue().encode()
    parsed = read_rows(data)
    assert len(parsed.rows) == len(cells)
    assert merge([parsed, parsed]).to_bytes() == data + data.removeprefix(b'"left","right"\n')
