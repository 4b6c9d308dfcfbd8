"""Nothing mutable passes by reference from one node to another, at the price of a copy only where one is needed."""

from __future__ import annotations

import copy
import datetime
import decimal
import pathlib
import pickle
import sys
import sysconfig
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sent_values import (
    ARRAYS,
    Tensor,
    frozen,
    own_and_writable,
    run_script,
    same,
    through_flame,
)

from star_actors.isolation import (
    ATOMIC,
    Broadcast,
    Uncopyable,
    moved,
    nbytes_of,
    private_copy,
)

counted = pytest.mark.skipif(
    sys.version_info >= (3, 14) or bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="references do not tell who holds an object on this interpreter: everything is copied",
)


class LabelledInt(int):
    label: list[str]


class TestAtomic:
    @pytest.mark.parametrize(
        "value",
        [
            None, True, 3, 1 << 5000, 2.5, 1j, "text", b"bytes", range(3), ..., NotImplemented,
            datetime.date(2024, 1, 1), datetime.timedelta(1), decimal.Decimal("1.5"), uuid.UUID(int=1),
            pathlib.Path("a"), pathlib.PurePosixPath("a"), np.float64(2.5), np.int64(3), np.str_("a"), (1, "a", None),
        ],
        ids=repr,
    )  # fmt: skip
    def test_immutable_values_pass_as_they_are(self, value: Any) -> None:
        assert private_copy(value)[0] is value
        assert moved([value])[0] is value
        assert Broadcast(value).take() is value

    @pytest.mark.parametrize("value", [None, True, 3, 2.5, "text", b"x" * 500, 1 << 5000, np.zeros(100)], ids=type)
    def test_the_estimate_is_near_the_size_of_the_pickle(self, value: Any) -> None:
        assert abs(nbytes_of(value) - len(pickle.dumps(value))) < 60

    def test_atomic_are_only_types_without_a_part_that_can_change(self) -> None:
        assert {type(None), bool, int, float, str, bytes} <= ATOMIC
        assert not {list, dict, set, bytearray, tuple, datetime.datetime} & ATOMIC

    def test_a_subclass_of_an_atomic_type_is_copied(self) -> None:
        value = LabelledInt(3)
        value.label = ["a"]
        received: LabelledInt = private_copy(value)[0]
        assert received is not value
        assert received.label == ["a"]
        assert received.label is not value.label

    def test_a_mutable_numpy_scalar_is_copied(self) -> None:
        record: Any = np.array([(1, 2.0)], dtype=[("n", "i4"), ("x", "f8")])[0].copy()
        received = private_copy(record)[0]
        received["n"] = 5
        assert record["n"] == 1

    def test_the_import_loads_neither_numpy_nor_ctypes(self) -> None:
        script = """
            import sys, star_actors.isolation as isolation
            isolation.private_copy({"a": [1, {2}]}), isolation.Broadcast([{}]).take()
            isolation.copy_in([1], what="")
            print(sorted({"numpy", "ctypes", "pickletools", "pandas"} & set(sys.modules)))
        """
        assert run_script(script) == "[]"


class TestPrivateCopy:
    @pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS)
    def test_an_array_arrives_as_on_flame(self, make: Callable[[], Any]) -> None:
        array = make()
        received, nbytes = private_copy(array)
        assert same(received, through_flame(array))
        assert own_and_writable(received, array)
        assert nbytes >= array.nbytes

    @pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS)
    def test_an_array_in_a_container_arrives_as_on_flame(self, make: Callable[[], Any]) -> None:
        deep = {"deep": [{"x": make()}]}
        values: list[Any] = [{"x": make(), "n": 1}, [make(), 1], (1, make()), deep]
        for value in values:
            assert same(private_copy(value)[0], through_flame(value))
        assert own_and_writable(private_copy(deep)[0]["deep"][0]["x"], deep["deep"][0]["x"])

    @pytest.mark.parametrize(
        "value",
        [{"a": 1.5}, {"a": [1]}, [1, [2]], {1, 2}, [], {}, bytearray(b"a"), {"b": bytearray(b"a")}, [{}]],
        ids=repr,
    )
    def test_a_container_arrives_equal_and_is_another(self, value: Any) -> None:
        received = private_copy(value)[0]
        assert received == value
        assert received is not value

    def test_elements_of_a_container_are_others(self) -> None:
        value = {"list": [1], "array": np.zeros(3), "bytes": bytearray(b"a"), "set": {1}}
        received = private_copy(value)[0]
        assert all(received[key] is not value[key] for key in value)

    def test_one_array_twice_stays_one_array(self) -> None:
        array = np.zeros(3)
        for value in ([array, array], {"a": array, "b": array}, (array, array)):
            first, second = list(private_copy(value)[0].values() if isinstance(value, dict) else private_copy(value)[0])
            assert first is second
            assert first is not array

    def test_a_cycle_stays_a_cycle(self) -> None:
        value: list[Any] = [1]
        value.append(value)
        received = private_copy(value)[0]
        assert received[1] is received
        assert received is not value

    def test_field_names_of_a_structured_array_are_not_shared(self) -> None:
        array = ARRAYS["structured"]()
        private_copy(array)[0].dtype.names = ("other", "names")
        assert array.dtype.names == ("n", "x")

    def test_a_large_buffer_out_of_band_is_writable_and_private(self) -> None:
        tensor = Tensor(bytearray(2_000_000))
        received, nbytes = private_copy(tensor)
        memoryview(received.data)[0] = 1
        assert tensor.data[0] == 0
        assert nbytes > 2_000_000

    def test_a_read_only_array_in_a_container_arrives_writable(self) -> None:
        received = private_copy({"deep": [frozen(np.zeros(3))]})[0]
        assert received["deep"][0].flags.writeable

    def test_a_frame_arrives_equal_and_private(self) -> None:
        pandas = pytest.importorskip("pandas", reason="frames need pandas")
        frame = pandas.DataFrame({"a": [1.0, 2.0], "b": ["x", None], "c": pandas.Categorical(["u", "v"])})
        received = private_copy(frame)[0]
        pandas.testing.assert_frame_equal(received, frame)
        received.loc[0, "a"] = 9.0
        assert frame.loc[0, "a"] == 1.0

    @given(
        st.recursive(
            st.none() | st.floats() | st.text(max_size=5) | hnp.arrays(st.sampled_from(["f8", ">i4", "U2"]), (2, 3)),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
            max_leaves=12,
        )
    )
    def test_every_way_of_copying_gives_what_arrives_on_flame(self, value: Any) -> None:
        expected = through_flame(value)
        broadcast = Broadcast(value)
        for received in (private_copy(value)[0], broadcast.take(), broadcast.keep(), moved([copy.deepcopy(value)])[0]):
            assert same(received, expected)


class Node:
    """Stands in for a user's class: each method gives an array that something else still has, but for `fresh`."""

    def __init__(self) -> None:
        self.array = np.zeros(5)
        self.held: Any = None

    def fresh(self) -> Any:
        return np.zeros(5)

    async def fresh_awaited(self) -> Any:
        return np.zeros(5)

    def on_self(self) -> Any:
        self.array = np.zeros(5)
        return self.array

    def in_closure(self) -> Any:
        array = np.zeros(5)
        self.held = lambda: array
        return array

    def in_container(self) -> Any:
        array = np.zeros(5)
        self.held = {"deep": [array]}
        return array

    def viewed(self) -> Any:
        array = np.zeros(5)
        self.held = array[1:]
        return array

    def view(self) -> Any:
        self.held = np.zeros(6)
        return self.held[1:]

    def weakly(self) -> Any:
        array = np.zeros(5)
        self.held = weakref.ref(array)
        self.array = np.zeros(5)
        return array

    def as_buffer(self) -> Any:
        array = np.zeros(5)
        self.held = array.data
        return array

    def in_generator(self) -> Any:
        def generator() -> Iterator[Any]:
            array = np.zeros(5)
            yield array
            yield array

        self.held = generator()
        return next(self.held)

    def in_default(self) -> Any:
        array = np.zeros(5)

        def function(default: Any = array) -> Any:
            return default

        self.held = function
        return array

    def in_array_of_objects(self) -> Any:
        array = np.zeros(5)
        self.held = np.array([None, array], dtype=object)
        return array

    def in_traceback(self) -> Any:
        array = np.zeros(5)
        try:
            raise ValueError("kept")
        except ValueError as error:
            self.held = error.__traceback__
        return array


KEEPERS = [
    Node.on_self, Node.in_closure, Node.in_container, Node.viewed, Node.view, Node.weakly, Node.as_buffer,
    Node.in_generator, Node.in_default, Node.in_array_of_objects, Node.in_traceback,
]  # fmt: skip


class TestMoved:
    @counted
    def test_an_array_that_nobody_else_has_is_handed_over(self) -> None:
        held = [Node().fresh()]
        address = held[0].ctypes.data
        received, nbytes = moved(held)
        assert received.ctypes.data == address
        assert nbytes >= 40
        assert held == []

    @counted
    async def test_an_awaited_array_that_nobody_else_has_is_handed_over(self) -> None:
        held = [await Node().fresh_awaited()]
        before = id(held[0])
        assert id(moved(held)[0]) == before

    @counted
    def test_a_flat_container_is_handed_over_with_its_arrays(self) -> None:
        for make in (lambda: {"w": np.zeros(5), "n": 1}, lambda: [np.zeros(5), 1.5], lambda: (np.zeros(5), "a")):
            held: list[Any] = [make()]
            before = id(held[0])
            received, _ = moved(held)
            assert id(received) == before

    @pytest.mark.parametrize("keeper", KEEPERS, ids=lambda keeper: keeper.__name__)
    def test_an_array_that_something_else_has_is_copied(self, keeper: Callable[[Node], Any]) -> None:
        node = Node()
        held = [keeper(node)]
        before = held[0].ctypes.data
        received, _ = moved(held)
        assert received.ctypes.data != before

    @pytest.mark.parametrize("keeper", KEEPERS, ids=lambda keeper: keeper.__name__)
    def test_an_array_in_a_container_that_something_else_has_is_copied(self, keeper: Callable[[Node], Any]) -> None:
        node = Node()
        for wrap in (lambda array: {"w": array, "n": 1}, lambda array: [array], lambda array: (1, array)):
            array = keeper(node)
            held = [wrap(array)]
            before = array.ctypes.data
            del array
            received, _ = moved(held)
            (found,) = (
                x for x in (received.values() if isinstance(received, dict) else received) if type(x) is np.ndarray
            )
            assert found.ctypes.data != before

    def test_an_array_that_a_variable_names_is_copied(self) -> None:
        array = np.zeros(5)
        assert moved([array])[0] is not array

    def test_a_container_that_something_else_has_is_copied_with_its_arrays(self) -> None:
        kept = {"w": np.zeros(5)}
        received, _ = moved([kept])
        assert received is not kept
        assert own_and_writable(received["w"], kept["w"])

    @counted
    def test_a_read_only_array_is_handed_over_writable(self) -> None:
        held = [frozen(np.zeros(5))]
        before = id(held[0])
        received, _ = moved(held)
        assert id(received) == before
        assert received.flags.writeable

    @pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS)
    def test_what_is_moved_looks_like_what_is_copied(self, make: Callable[[], Any]) -> None:
        array = make()
        expected = through_flame(array)
        received, _ = moved([copy.deepcopy(array) if array.base is None else make()])
        assert same(received, expected)
        assert received.flags.writeable

    def test_a_layout_that_pickling_would_change_is_copied(self) -> None:
        held = [np.zeros((4, 2, 3)).transpose(1, 0, 2) + 1.0]
        expected = through_flame(held[0])
        assert moved(held)[0].strides == expected.strides

    def test_what_cannot_be_pickled_cannot_be_moved(self) -> None:
        with pytest.raises(Uncopyable):
            moved([[threading.Lock()]])
