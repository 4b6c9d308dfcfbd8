from collections import Counter, namedtuple
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_actors.data import split
from star_actors.errors import ConfigurationError

ROWS = 60
HOSPITALS = ["north"] * 10 + ["south"] * 30 + ["east"] * 20
LABELS = [row % 3 for row in range(ROWS)]


def frame() -> Any:
    return pd.DataFrame({"row": range(ROWS), "hospital": HOSPITALS, "label": LABELS}, index=range(1000, 1000 + ROWS))


def polar() -> pl.DataFrame:
    return pl.DataFrame({"row": range(ROWS), "hospital": HOSPITALS, "label": LABELS})


WAYS: list[dict[str, Any]] = [
    {"how": "iid"},
    {"how": "by", "by": HOSPITALS},
    {"how": "label", "label": LABELS, "alpha": 0.1},
    {"how": "size", "alpha": 0.3},
]
KINDS: list[tuple[Any, Any]] = [
    (frame(), lambda part: part["row"].tolist()),
    (frame()["row"], lambda part: part.tolist()),
    (polar(), lambda part: part["row"].to_list()),
    (polar()["row"], lambda part: part.to_list()),
    (np.arange(ROWS), lambda part: part.tolist()),
    (np.arange(ROWS * 2).reshape(ROWS, 2) // 2, lambda part: part[:, 1].tolist()),
    (list(range(ROWS)), lambda part: part),
    ((np.arange(ROWS), list(range(ROWS))), lambda part: part[0].tolist()),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["how"])
@pytest.mark.parametrize(
    ("data", "rows_of"), KINDS, ids=[type(data).__module__[:6] + str(n) for n, (data, _) in enumerate(KINDS)]
)
def test_parts_are_disjoint_complete_and_of_the_datas_kind(data: Any, rows_of: Any, way: dict[str, Any]) -> None:
    parts = split(data, 3, **way)
    assert [type(part) for part in parts] == [type(data)] * 3
    rows = [rows_of(part) for part in parts]
    assert sorted(chain.from_iterable(rows)) == list(range(ROWS))
    assert all(rows)
    assert all(part == sorted(part) for part in rows)


@given(
    rows=st.integers(1, 60),
    parts=st.integers(1, 60),
    alpha=st.floats(1e-3, 1e3),
    classes=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    how=st.sampled_from(["iid", "label", "size"]),
)
def test_any_split_is_a_partition_without_empty_parts(
    rows: int, parts: int, alpha: float, classes: int, seed: int, how: Any
) -> None:
    parts = min(parts, rows)
    options: dict[str, Any] = {} if how == "iid" else {"alpha": alpha}
    if how == "label":
        options["label"] = [row % classes for row in range(rows)]
    got = split(list(range(rows)), parts, how, seed=seed, **options)
    assert len(got) == parts
    assert all(got)
    assert Counter(chain.from_iterable(got)) == Counter(range(rows))


@given(groups=st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=40), parts=st.integers(1, 7))
def test_any_split_by_a_column_keeps_groups_together(groups: list[str], parts: int) -> None:
    parts = min(parts, len(set(groups)))
    got = split(groups, parts, by=groups)
    assert len(got) == parts
    assert Counter(chain.from_iterable(got)) == Counter(groups)
    assert sum(len(set(part)) for part in got) == len(set(groups))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["how"])
def test_the_same_seed_gives_the_same_parts(way: dict[str, Any]) -> None:
    assert split(list(range(ROWS)), 3, seed=7, **way) == split(list(range(ROWS)), 3, seed=7, **way)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2], WAYS[3]], ids=lambda way: way["how"])
def test_another_seed_gives_other_parts(way: dict[str, Any]) -> None:
    assert split(list(range(ROWS)), 3, seed=7, **way) != split(list(range(ROWS)), 3, seed=8, **way)


def test_splitting_leaves_the_global_generator_alone() -> None:
    np.random.seed(5)
    before = np.random.get_state()[1]  # type: ignore[index]
    split(list(range(ROWS)), 3)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]


def test_the_default_is_iid_with_equal_sizes() -> None:
    parts = split(list(range(11)), 3)
    assert sorted(map(len, parts)) == [3, 4, 4]
    assert parts == split(list(range(11)), 3, "iid")
    assert parts != [list(range(4)), list(range(4, 8)), list(range(8, 11))]


def test_iid_parts_have_the_labels_of_the_whole() -> None:
    parts = split(np.repeat([0, 1], 10_000), 4)
    # A share's standard deviation is 0.007 at most, so 0.05 is beyond 7 of them: false alarm below 1e-11.
    assert [float(part.mean()) for part in parts] == pytest.approx([0.5] * 4, abs=0.05)


@pytest.mark.parametrize("data", [frame(), polar()], ids=["pandas", "polars"])
def test_by_a_column_gives_one_part_per_value_in_order(data: Any) -> None:
    assert [set(part["hospital"]) for part in split(data, by="hospital")] == [{"east"}, {"north"}, {"south"}]


def test_by_a_column_with_n_deals_out_whole_groups_evenly() -> None:
    parts = split(frame(), 2, by="hospital")
    assert [sorted(set(part["hospital"])) for part in parts] == [["south"], ["east", "north"]]
    assert [len(part) for part in parts] == [30, 30]


def test_values_that_cannot_be_compared_stand_in_order_of_appearance() -> None:
    assert split(["a", "b", "c"], by=["x", 3, "x"]) == [["a", "c"], ["b"]]


def test_by_takes_a_series_an_array_or_a_list() -> None:
    wanted = split(list(range(ROWS)), by=HOSPITALS)
    for values in (np.array(HOSPITALS), pd.Series(HOSPITALS), pl.Series(HOSPITALS), pd.Categorical(HOSPITALS)):
        assert split(list(range(ROWS)), by=values) == wanted


def test_by_takes_a_key_of_rows_that_are_dicts() -> None:
    rows = [{"site": "b", "x": 1}, {"site": "a", "x": 2}, {"site": "b", "x": 3}]
    assert split(rows, by="site") == [[rows[1]], [rows[0], rows[2]]]


def test_by_takes_a_column_number_of_a_matrix() -> None:
    matrix = np.array([[1, 9], [2, 8], [3, 9]])
    assert [part[:, 0].tolist() for part in split(matrix, by=1)] == [[2], [1, 3]]
    assert [part[:, 0].tolist() for part in split(matrix, by=-1)] == [[2], [1, 3]]


def test_by_takes_a_column_of_the_frame_in_a_tuple() -> None:
    parts = split((np.arange(ROWS), frame()), by="hospital")
    assert [len(rows) for rows, _ in parts] == [20, 10, 30]
    assert all(rows.tolist() == part["row"].tolist() for rows, part in parts)


def test_arrays_of_a_tuple_are_cut_in_step() -> None:
    X, y = np.arange(ROWS * 2).reshape(ROWS, 2), np.arange(ROWS)
    for part_X, part_y in split((X, y), 4):
        assert part_X[:, 0].tolist() == (2 * part_y).tolist()


def test_a_named_tuple_stays_one() -> None:
    Pair = namedtuple("Pair", "x y")
    parts = split(Pair([1, 2, 3], [4, 5, 6]), 2)
    assert all(isinstance(part, Pair) for part in parts)


def test_the_last_array_of_a_tuple_holds_the_labels() -> None:
    X, y = list(range(ROWS)), LABELS
    assert split((X, y), 3, "label") == split((X, y), 3, "label", label=y)


def test_label_skew_grows_as_alpha_shrinks() -> None:
    labels = np.arange(9_000) % 3

    def skew(alpha: float) -> float:
        shares = [np.bincount(part, minlength=3) / len(part) for part in split(labels, 5, label=labels, alpha=alpha)]
        return float(np.mean([share.max() for share in shares]))

    assert skew(1e4) < 0.36 < 0.5 < skew(0.05)


def test_size_skew_grows_as_alpha_shrinks_and_labels_stay_alike() -> None:
    even = split(list(range(9_000)), 5, "size", alpha=1e4)
    skewed = split(np.arange(9_000) % 2, 5, "size", alpha=0.3)
    assert max(map(len, even)) < 2_000
    assert max(map(len, skewed)) > 3_000
    assert float(max(skewed, key=len).mean()) == pytest.approx(0.5, abs=0.05)


def test_the_index_of_a_frame_goes_along() -> None:
    parts = split(frame(), 3)
    assert all((part.index == part["row"] + 1000).all() for part in parts)


def test_a_part_is_a_copy() -> None:
    data = np.arange(6)
    parts = split(data, 2)
    parts[0][:] = -1
    assert data.tolist() == list(range(6))


def test_as_many_parts_as_rows_have_one_row_each() -> None:
    for how in ("iid", "size"):
        assert sorted(split([1, 2, 3], 3, how)) == [[1], [2], [3]]
    assert sorted(split([1, 2, 3], 3, label=[0, 0, 0], alpha=1e-3)) == [[1], [2], [3]]


@pytest.mark.parametrize("n", [np.int64(2), 2])
def test_n_may_be_a_numpy_integer(n: Any) -> None:
    assert len(split([1, 2, 3], n)) == 2


MISSING = pd.DataFrame({"site": ["a", None, "b", float("nan")], "x": pd.array([1, 2, pd.NA, 4], dtype="Int64")})


@pytest.mark.parametrize(
    ("data", "arguments", "said"),
    [
        ([1, 2], {"n": 3}, "n=3 parts are asked of 2 rows"),
        ([1, 2], {"n": 0}, "n=0 is given, a whole number from 1"),
        ([1, 2], {"n": 1.5}, "n=1.5 is given"),
        ([1, 2], {"n": True}, "n=True is given"),
        ([1, 2], {}, "how='iid' needs n"),
        ([1, 2], {"how": "size"}, "how='size' needs n"),
        ([], {"n": 1}, "data without rows"),
        ([1, 2], {"n": 2, "how": "random"}, "how='random' is given, 'iid' or 'by' or 'label' or 'size' is wanted"),
        ([1, 2], {"n": 2, "seed": -1}, "seed=-1 is given"),
        ([1, 2], {"n": 2, "seed": None}, "seed=None is given"),
        ([1, 2], {"n": 2, "how": "size", "alpha": 0}, "alpha=0 is given, a finite number above 0"),
        ([1, 2], {"n": 2, "how": "size", "alpha": float("inf")}, "alpha=inf is given"),
        ([1, 2], {"n": 2, "alpha": 1}, "how='iid' and alpha=1 is given"),
        ([1, 2], {"n": 2, "how": "by"}, "by, the column to go by, is not given"),
        ([1, 2], {"n": 2, "how": "iid", "by": [1, 2]}, "how='iid' and by is given too"),
        ([1, 2], {"n": 2, "how": "size", "label": [1, 2]}, "how='size' and label is given"),
        ([1, 2], {"n": 2, "how": "label"}, "how='label' needs label"),
        ([1, 2], {"by": [1, 2, 3]}, "by has 3 values for 2 rows"),
        ([1, 2], {"by": 3.5}, "by is of type float"),
        ([1, 2], {"by": "site"}, "by='site' is given, and list data has no named columns"),
        ([1, 2], {"by": 0}, "by=0 is given, and data is not a two-dimensional array"),
        ([1, 2], {"by": [[1], [2]]}, "by holds a list in row 0"),
        ([1, 2, 3], {"n": 3, "by": [1, 1, 2]}, "n=3 parts are asked, and `by` has 2 values"),
        ([{"a": 1}, {"b": 1}], {"by": "a"}, "by='a' is missing in 1 of 2 rows"),
        ([{"a": 1}, {"b": 1}], {"by": "c"}, "by='c' is not a column of data, which has 'a', 'b'"),
        (np.ones((2, 2)), {"by": 2}, "the array has columns 0 to 1"),
        (frame(), {"by": "site"}, "by='site' is not a column of data, which has 'row', 'hospital', 'label'"),
        (polar(), {"n": 2, "label": "site"}, "label='site' is not a column of data"),
        (frame(), {"by": 3}, "by=3 is not a column of data"),
        (MISSING, {"by": "site"}, "2 of 4 rows have no value in by"),
        (MISSING, {"n": 2, "label": "x"}, "1 of 4 rows have no value in label"),
        (polar().lazy(), {"n": 2}, r"data of type LazyFrame is given.*call its collect\(\) first"),
        ("text", {"n": 2}, "data of type str is given"),
        (None, {"n": 2}, "data of type NoneType is given"),
        ({"a": 1}, {"n": 1}, "data of type dict is given"),
        (np.array(3), {"n": 1}, "data of type ndarray is given"),
        ((), {"n": 1}, "an empty tuple is given"),
        (([1, 2], [1]), {"n": 1}, r"a tuple with \[2, 1\] rows"),
    ],
)
def test_wrong_arguments_are_errors_that_say_what_is_wanted(data: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        split(data, **arguments)
