"""What comes into a node, and what cannot be copied at all."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sent_values import (
    ARRAYS,
    Raises,
    UnpicklingFails,
    own_and_writable,
    run_script,
    same,
    through_flame,
)

from star_actors.errors import ConfigurationError, NodeStopped
from star_actors.isolation import (
    Broadcast,
    Uncopyable,
    copy_in,
    main_only_class,
    moved,
    private_copy,
)


class Attributes:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def method(self) -> None:
        """A bound method pickles with its instance."""


class Slots:
    __slots__ = ("first", "second")

    def __init__(self, first: Any, second: Any) -> None:
        self.first = first
        self.second = second


@dataclasses.dataclass
class Model:
    name: str
    hook: Any


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenModel:
    name: str
    hook: Any


class OnlyDeepCopies:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")

    def __deepcopy__(self, memo: Any) -> OnlyDeepCopies:
        return OnlyDeepCopies(copy.deepcopy(self.value, memo))


class TestCopyIn:
    @pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS)
    def test_data_is_a_copy_as_on_flame(self, make: Callable[[], Any]) -> None:
        array = make()
        received = copy_in(array, what="data_splits[0]")
        assert same(received, through_flame(array))
        assert own_and_writable(received, array)

    def test_what_the_caller_changes_later_does_not_show(self) -> None:
        given_data: dict[str, Any] = {"rows": [[1, 2]], "array": np.zeros(3)}
        received = copy_in(given_data, what="data_splits[0]")
        given_data["rows"][0].append(3)
        given_data["array"][:] = 1.0
        assert received["rows"] == [[1, 2]]
        assert not received["array"].any()

    def test_functions_classes_and_modules_pass_by_reference(self) -> None:
        class Local:
            pass

        function = lambda: 1  # noqa: E731
        for value in (function, Local, np, dataclasses.field):
            assert copy_in(value, what="analyzer_kwargs") is value
        kwargs = {"function": function, "cls": Local, "module": np, "list": [function]}
        received = copy_in(kwargs, what="analyzer_kwargs")
        assert received == kwargs
        assert received["list"] is not kwargs["list"]

    def test_an_instance_of_a_local_class_is_copied(self) -> None:
        class Local:
            def __init__(self) -> None:
                self.values = [1]

        given_object = Local()
        received = copy_in(given_object, what="analyzer_kwargs")
        assert type(received) is Local
        assert received.values == [1]
        assert received.values is not given_object.values

    def test_what_can_only_be_deep_copied_is(self) -> None:
        value = OnlyDeepCopies([1])
        received = copy_in({"x": value}, what="analyzer_kwargs")["x"]
        assert received.value == [1]
        assert received.value is not value.value

    def test_a_frame_is_copied(self) -> None:
        pandas = pytest.importorskip("pandas", reason="frames need pandas")
        frame = pandas.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}, index=["r", "s"])
        received = copy_in(frame, what="data_splits[0]")
        pandas.testing.assert_frame_equal(received, frame)
        received.iloc[0, 0] = 9.0
        assert frame.iloc[0, 0] == 1.0

    def test_what_cannot_be_copied_is_an_error_that_says_what_to_do(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            copy_in({"x": 1, "f": lambda: 1, "lock": [threading.Lock()]}, what="analyzer_kwargs")
        assert 'analyzer_kwargs["lock"][0] is a _thread.lock' in str(caught.value)
        assert "copy_data=False" in str(caught.value)
        assert isinstance(caught.value.__cause__, TypeError)

    def test_ctrl_c_passes(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            copy_in([Raises(KeyboardInterrupt())], what="data_splits[0]")


def lock() -> Any:
    return threading.Lock()


class KeepsOut:
    """Leaves one attribute out of its pickle, and cannot pickle another."""

    def __init__(self) -> None:
        self.left_out = lock()
        self.left_in = lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"left_in": self.left_in}


def _tree() -> Any:
    """A parent and children that know each other, and a lock that is looked at last."""
    root = Attributes()
    root.children = [Attributes(parent=root, number=number) for number in range(3)]  # type: ignore[attr-defined]
    root.last = {"lock": lock()}  # type: ignore[attr-defined]
    return root


def _objects() -> Any:
    array = np.empty((2, 2), dtype=object)
    array[1, 0] = lock()
    return array


class TestUncopyable:
    @pytest.mark.parametrize(
        ("make", "path"),
        [
            (lock, ""),
            (lambda: {"a": 1, "model": {"hook": lock()}}, '["model"]["hook"]'),
            (lambda: [1, (2, [lock()])], "[1][1][0]"),
            (lambda: {3: lock()}, "[3]"),
            (lambda: {(1, lock()): 1}, ".keys()[0][1]"),
            (lambda: {lock()}, "{element}"),
            (lambda: Attributes(model={"hook": lock()}), '.model["hook"]'),
            (lambda: Slots(1, lock()), ".second"),
            (lambda: Model("a", lock()), ".hook"),
            (lambda: FrozenModel("a", [lock()]), ".hook[0]"),
            (lambda: KeepsOut(), ".left_in"),
            (lambda: [1] * 100_000 + [lock()], "[100000]"),
            (lambda: {"x" * 100: lock()}, f'["{"x" * 37}..."]'),
            (_tree, '.last["lock"]'),
            (_objects, "[1, 0]"),
            (lambda: [Attributes(hook=Attributes(f=lock()).method)], "[0].hook.__self__.f"),
            (lambda: {"f": lambda: 1}, '["f"]'),
        ],
    )
    def test_it_names_the_smallest_part_that_fails(self, make: Callable[[], Any], path: str) -> None:
        with pytest.raises(Uncopyable) as caught:
            private_copy(make())
        assert caught.value.path == path

    def test_it_names_the_column_and_row_of_a_frame(self) -> None:
        pandas = pytest.importorskip("pandas", reason="frames need pandas")
        with pytest.raises(Uncopyable) as caught:
            private_copy(pandas.DataFrame({"a": [1, 2], "b": [None, lock()]}))
        assert caught.value.path == '["b"][1]'

    def test_it_tells_type_and_cause(self) -> None:
        with pytest.raises(Uncopyable, match=r"\.hook, of type _thread\.lock, cannot be copied: TypeError") as caught:
            private_copy(Model("a", lock()))
        assert caught.value.type_name == "_thread.lock"
        assert isinstance(caught.value.cause, TypeError)
        assert caught.value.__cause__ is caught.value.cause

    @pytest.mark.parametrize("error", [SystemExit(3), pytest.fail.Exception("no"), ValueError("no"), GeneratorExit()])
    def test_whatever_the_values_own_code_raises_is_its_cause(self, error: BaseException) -> None:
        for send in (private_copy, lambda value: moved([value]), lambda value: Broadcast(value)):
            with pytest.raises(Uncopyable) as caught:
                send({"x": Raises(error)})
            assert caught.value.cause is error
            assert caught.value.path == '["x"]'

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), NodeStopped()])
    def test_ctrl_c_and_the_end_of_the_run_pass(self, error: BaseException) -> None:
        for send in (private_copy, lambda value: moved([value]), lambda value: Broadcast(value)):
            with pytest.raises(type(error)):
                send({"x": Raises(error)})

    def test_a_value_nested_too_deeply_is_named_as_a_whole(self) -> None:
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        with pytest.raises(Uncopyable) as caught:
            private_copy(value)
        assert caught.value.path == ""
        assert isinstance(caught.value.cause, RecursionError)
        while value:
            value = value[0]

    def test_an_object_that_fails_only_as_a_whole_is_named_even_in_a_cycle(self) -> None:
        error = UnpicklingFails("a", "b")
        error.itself = error  # type: ignore[attr-defined]
        with pytest.raises(Uncopyable) as caught:
            private_copy([error])
        assert caught.value.path == "[0]"

    def test_it_pickles_with_its_cause(self) -> None:
        error = Uncopyable('["a"]', "_thread.lock", TypeError("no"))
        again = pickle.loads(pickle.dumps(error))
        assert (again.path, again.type_name, str(again.cause), str(again)) == (
            '["a"]',
            "_thread.lock",
            "no",
            str(error),
        )

    def test_it_pickles_even_with_a_cause_that_does_not(self) -> None:
        again = pickle.loads(pickle.dumps(Uncopyable("", "X", UnpicklingFails("first", "second"))))
        assert "first" in str(again)


class TestMainOnlyClass:
    def test_a_class_of_the_script_is_named(self) -> None:
        script = """
            import numpy as np
            from star_actors.isolation import Broadcast, main_only_class
            class Outer:
                class Model: pass
            def function(): pass
            for value in (Outer.Model(), {"a": [Outer]}, [function], [{"text": "__main__"}, Outer(), Outer()],
                          {"text": "__main__", "more": "Outer"}, [np.zeros(3)], np.zeros(3), 1.5, {"a": 1}):
                print(main_only_class(value), main_only_class(value, pickled=Broadcast([[value]]).pickled))
        """
        expected = ["Outer.Model", "Outer", "function", "Outer"]
        lines = [f"__main__.{name} __main__.{name}" for name in expected] + ["None None"] * 5
        assert run_script(script).splitlines() == lines

    def test_an_importable_class_is_not(self) -> None:
        assert main_only_class([Model("__main__", 1), Attributes]) is None
