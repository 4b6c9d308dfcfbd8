from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import polars as pl
import pytest

from star_actors.data.shapes import describe_mismatch
from star_actors.errors import ConfigurationError

S3 = [{"data.csv": b"a\n1\n"}]
FHIR = [{"Patient": {"resourceType": "Bundle", "entry": []}}]


def described(splits: list[Any], data_type: str) -> str:
    text = describe_mismatch(splits, data_type)
    assert text is not None
    return text


@pytest.mark.parametrize(
    ("split", "data_type"), [(S3, "s3"), (FHIR, "fhir"), ([*S3, *S3], "s3"), ([*FHIR, {}], "fhir")]
)
def test_splits_in_flames_shape_give_none(split: Any, data_type: str) -> None:
    assert describe_mismatch([split, split], data_type) is None


@pytest.mark.parametrize("data_type", ["s3", "fhir"])
def test_a_node_without_sources_or_with_sources_of_the_other_kind_is_in_shape(data_type: str) -> None:
    assert describe_mismatch([[], [{}], [{}, {}]], data_type) is None


def test_no_splits_give_none() -> None:
    assert describe_mismatch([], "s3") is None


@pytest.mark.parametrize("data_type", ["s3", "fhir"])
@pytest.mark.parametrize(
    ("split", "named"),
    [
        (None, "None"),
        (pd.DataFrame({"a": [1, 2]}), "a pandas.DataFrame"),
        (pl.DataFrame({"a": [1, 2]}), "a polars.DataFrame"),
        (pd.Series([1, 2]), "a pandas.Series"),
        (np.arange(3), "a numpy.ndarray"),
        ("text", "a str"),
        (b"bytes", "a bytes"),
        (3.5, "a float"),
        ((1, 2), "a tuple"),
        ({"a": 1}, "a dict"),
        ({}, "a dict, without the list of sources around it"),
        ([1, 2], "a list that holds an int"),
        ([None], "a list that holds None"),
        ([np.arange(3)], "a list that holds a numpy.ndarray"),
        ([pd.DataFrame({"a": [1]})], "a list that holds a pandas.DataFrame"),
        ([{1: b"x"}], "a dict with a key that is an int, where str is wanted"),
        ([{"a": pd.DataFrame({"a": [1]})}], "a dict with a value that is a pandas.DataFrame"),
        ([{"a": np.arange(3)}], "a dict with a value that is a numpy.ndarray"),
    ],
    ids=str,
)
def test_any_other_data_is_named_and_does_not_crash(split: Any, named: str, data_type: str) -> None:
    assert f"node_0: {named}" in described([split], data_type)


def test_all_splits_are_looked_at_not_only_the_first() -> None:
    text = described([S3, S3, [1], S3], "s3")
    assert "1 of 4 data splits differs" in text
    assert "node_2: a list that holds an int" in text


def test_equal_differences_stand_together_with_their_nodes() -> None:
    text = described([[1], "x", [2], S3, "y"], "s3")
    assert "node_0, node_2: a list that holds an int" in text
    assert "node_1, node_4: a str" in text


def test_text_is_not_bytes() -> None:
    text = described([[{"a.csv": b"x", "b.csv": "text"}]], "s3")
    assert "a dict with a value that is a str, where bytes is wanted" in text
    assert "node_0, data[0]['b.csv']" in text


def test_the_kinds_of_data_are_told_apart() -> None:
    assert "a value that is a dict, where bytes is wanted" in described([FHIR], "s3")
    assert "a value that is a bytes, where dict is wanted" in described([S3], "fhir")


def test_a_dict_without_its_list_is_told_so() -> None:
    assert "a dict, without the list of sources around it" in described([S3[0]], "s3")


def test_a_bundle_without_its_query_is_told_so() -> None:
    bundle = {"resourceType": "Bundle", "entry": []}
    assert "without the {query: ...} around it" in described([[bundle]], "fhir")
    assert "without the [{query: ...}] around it" in described([bundle], "fhir")


def test_the_second_source_counts_too() -> None:
    assert "(first at node_0, data[1]['b'])" in described([[{"a": b"x"}, {"b": 1}]], "s3")


def test_no_value_of_the_data_is_shown() -> None:
    text = described(["SECRET", ["SECRET"], [{"a": "SECRET"}], [b"SECRET"]], "s3")
    assert "SECRET" not in text


def test_ten_thousand_splits_give_one_short_text() -> None:
    text = described([[1]] * 9_999 + [S3], "s3")
    assert "9999 of 10000 data splits differ" in text
    assert "node_0, node_1, node_2, node_3, node_4 and 9994 more" in text
    assert len(text) < 600


def test_many_ways_to_differ_are_summed_up() -> None:
    kinds = [type(f"Kind{number}", (), {}) for number in range(50)]
    text = described([kind() for kind in kinds], "s3")
    assert "and 44 more in 44 other ways" in text
    assert len(text.splitlines()) < 12


def test_only_types_are_looked_at() -> None:
    class Touchy:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"{name} was asked for")

        def __bool__(self) -> bool:
            raise AssertionError("truth was asked for")

        def __eq__(self, other: object) -> bool:
            raise AssertionError("equality was asked for")

    touchy = Touchy()
    for split in (touchy, [touchy], [{"a": touchy}]):
        assert "Touchy" in described([split], "s3")


def test_a_long_list_of_other_things_is_judged_by_its_first_item() -> None:
    class Counted(list[Any]):
        asked = 0

        def __iter__(self) -> Any:
            for item in super().__iter__():
                Counted.asked += 1
                yield item

    described([Counted(range(1_000_000))], "s3")
    assert Counted.asked == 1


def test_subclasses_are_in_shape() -> None:
    class Files(dict[str, bytes]):
        pass

    class Name(str):
        __slots__ = ()

    class Content(bytes):
        pass

    assert describe_mismatch([[Files({Name("a"): Content(b"x")})]], "s3") is None


def test_an_unknown_data_type_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="data_type='csv'"):
        describe_mismatch([S3], "csv")
