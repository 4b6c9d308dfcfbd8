"""The numbers inside an aggregate: every shape is read, and nothing that an object does makes reading fail."""

import math
from collections import namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from star_actors import Withheld
from star_actors.display.values import Numbers
from star_actors.report import Summary

Pair = namedtuple("Pair", "mean spread")


@dataclass
class Fit:
    beta: Any
    name: str


class Point(msgspec.Struct):
    x: float
    y: float


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (2, {"": 2.0}),
        (2.5, {"": 2.5}),
        (np.float32(0.5), {"": 0.5}),
        (np.int64(3), {"": 3.0}),
        (Decimal("0.25"), {"": 0.25}),
        (Fraction(1, 2), {"": 0.5}),
        (10**400, {"": math.inf}),
        (-(10**400), {"": -math.inf}),
        ([1, 2.0], {"[0]": 1.0, "[1]": 2.0}),
        ([1, -(10**400)], {"[0]": 1.0, "[1]": -math.inf}),
        ((1.0, "a", None, True, [2.0]), {"[0]": 1.0, "[4][0]": 2.0}),
        ({"beta": [1.0, 2.0], "n": 5}, {"beta[0]": 1.0, "beta[1]": 2.0, "n": 5.0}),
        ({"model": {"beta": 1.0}, "a b": {0: 2.0}}, {"model.beta": 1.0, "['a b'][0]": 2.0}),
        ({(1, 2): 1.0}, {"[tuple]": 1.0}),
        (np.array([[1.0, 2.0]]), {"[0, 0]": 1.0, "[0, 1]": 2.0}),
        (np.array(3.0), {"": 3.0}),
        (np.array([1, "a", [2.0]], dtype=object), {"[0]": 1.0, "[2][0]": 2.0}),
        (np.array([(1.0, 2)], dtype=[("a", "f8"), ("b", "i4")]), {"a[0]": 1.0, "b[0]": 2.0}),
        (1 + 2j, {".real": 1.0, ".imag": 2.0}),
        (np.array([1j]), {".real[0]": 0.0, ".imag[0]": 1.0}),
        (Pair(1.0, 2.0), {"mean": 1.0, "spread": 2.0}),
        (Fit([1.0], "cox"), {"beta[0]": 1.0}),
        (Point(1.0, 2.0), {"x": 1.0, "y": 2.0}),
        (pd.DataFrame({"age": [40, 50], "sex": ["f", "m"]}), {"age[0]": 40.0, "age[1]": 50.0}),
        (pd.Series([1.5]), {"[0]": 1.5}),
    ],
)
def test_numbers_are_found_and_named(value: Any, named: dict[str, float]) -> None:
    assert dict(Numbers(value).named(10)) == named
    assert Numbers(value).size == len(named)


NO_NUMBERS = [None, True, "1.0", b"1", object(), [], {}, {1, 2}, np.array([True]), np.array(["a"])]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_other_things_hold_no_number(value: Any) -> None:
    assert Numbers(value).size == 0


@pytest.mark.parametrize("value", [Withheld(), [Withheld()], Summary("ndarray", 800, (100,))])
def test_what_stands_in_for_a_value_holds_no_number(value: Any) -> None:
    assert Numbers(value).size == 0


def test_a_value_that_holds_itself_is_read_to_a_depth() -> None:
    value: list[Any] = [1.0, None]
    value[1] = value
    assert 0 < Numbers(value).size < 100


def test_an_own_float_method_is_not_called() -> None:
    class Trap(float):
        def __float__(self) -> float:
            raise RuntimeError("called")

    assert Numbers([Trap(2.0)]).named(1) == [("[0]", 2.0)]


def test_more_containers_than_are_looked_at_are_said() -> None:
    numbers = Numbers([[1.0, "a"]] * 100_001)
    assert numbers.truncated
    assert numbers.size == 100_000


@given(hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e100, 1e100)))
def test_the_norm_is_that_of_numpy_for_a_list_and_an_array(array: Any) -> None:
    expected = pytest.approx(float(np.linalg.norm(array)), rel=1e-9, abs=1e-150)
    assert Numbers(array).norm() == expected
    assert Numbers(array.tolist()).norm() == expected


def test_the_norm_of_an_array_does_not_overflow_where_the_numbers_do_not() -> None:
    assert Numbers(np.array([3e200, 4e200])).norm() == pytest.approx(5e200)


@pytest.mark.parametrize(
    ("then", "now", "distance"),
    [
        (1.0, 3.5, 2.5),
        ([0.0, 0.0], [3.0, 4.0], 5.0),
        ({"a": 1.0, "b": np.array([0.0])}, {"a": 4.0, "b": np.array([4.0])}, 5.0),
        (np.array([0], np.uint8), np.array([255], np.uint8), 255.0),
        (np.array([255], np.uint8), np.array([0], np.uint8), 255.0),
        (math.inf, math.inf, 0.0),
        (np.array([math.inf, 1.0]), np.array([math.inf, 3.0]), 2.0),
        ([math.inf, 1.0], [math.inf, 1.0], 0.0),
        (1.0, [1.0], None),
        ([1.0], [1.0, 2.0], None),
        ({"a": 1.0}, {"b": 1.0}, None),
        (np.zeros((2, 3)), np.zeros((3, 2)), None),
    ],
)
def test_the_distance_is_euclidean_where_the_structure_is_the_same(then: Any, now: Any, distance: float | None) -> None:
    assert Numbers(now).distance(Numbers(then)) == distance


def test_nan_and_infinite_numbers_are_noticed_in_lists_and_arrays() -> None:
    assert Numbers([1.0, 2.0]).finite()
    assert not Numbers([1.0, math.nan]).finite()
    assert not Numbers(np.array([1.0, math.inf])).finite()
    assert not Numbers(math.nan).finite()
