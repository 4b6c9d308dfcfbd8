"""Encoding: what each kind gives, what does not fit it, and which arguments name no kind."""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from star_actors.errors import ConfigurationError, EncodingError, NodeStopped
from star_actors.release.encoding import ENCODERS, Kind, check_output_type


class Raising:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error


@dataclass
class Model:
    weights: Any
    parts: Any = None


class Slotted:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


def encode(kind: Kind, result: Any) -> str | bytes:
    return ENCODERS[kind].encode(result, "result")


@pytest.mark.parametrize("result", [5.46875, "text", None, [1, 2], {"a": (1,)}, "Größe"])
def test_str_is_the_text_of_the_result(result: Any) -> None:
    assert encode("str", result) == str(result)


def test_str_leaves_no_subclass_of_str() -> None:
    class Loud(str):
        pass

    class Result:
        def __str__(self) -> str:
            return Loud("x")

    assert type(encode("str", Result())) is str


@pytest.mark.parametrize("result", [b"ab\0", bytearray(b"ab\0"), memoryview(b"ab\0"), memoryview(b"a-b-\0-")[::2]])
def test_bytes_are_the_bytes_themselves(result: Any) -> None:
    encoded = encode("bytes", result)
    assert type(encoded) is bytes
    assert encoded == b"ab\0"


@pytest.mark.parametrize("result", [{"a": [1.5, (2,)]}, Model([1.0]), float("inf")])
def test_pickle_gives_the_result_back(result: Any) -> None:
    encoded = encode("pickle", result)
    assert isinstance(encoded, bytes)
    assert pickle.loads(encoded) == result


@pytest.mark.parametrize("result", [3, 41.25, "text", None, [97, 98]])
def test_bytes_refuse_what_is_not_bytes_like_and_never_show_it(result: Any) -> None:
    with pytest.raises(EncodingError) as caught:
        encode("bytes", result)
    assert str(caught.value) == (
        f"result is of type {type(result).__name__}, bytes, bytearray or memoryview is wanted for output_type='bytes': "
        "return bytes from aggregation_method (text.encode(), array.tobytes()), or choose output_type='str' or 'pickle'"
    )


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no text"),
        SystemExit(3),
        GeneratorExit(),
        RecursionError(),
        pytest.fail.Exception("outcome"),
        pytest.skip.Exception("outcome"),
        pytest.exit.Exception("outcome"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_str_method_raises_is_the_cause_of_an_encoding_error(error: BaseException) -> None:
    with pytest.raises(EncodingError, match="its __str__ raised") as caught:
        encode("str", Raising(error))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), NodeStopped()], ids=lambda error: type(error).__name__)
def test_an_interrupt_passes_through_the_encoder(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        encode("str", Raising(error))
    assert caught.value is error


def test_a_str_method_that_gives_no_text_is_an_encoding_error() -> None:
    class Odd:
        def __str__(self) -> str:
            return 3  # type: ignore[return-value]

    with pytest.raises(EncodingError, match="__str__ returned non-string"):
        encode("str", Odd())


def test_a_whole_number_too_long_for_text_is_an_encoding_error() -> None:
    with pytest.raises(EncodingError, match="integer string conversion"):
        encode("str", 10**5000)


def test_text_that_utf_8_cannot_carry_is_an_encoding_error() -> None:
    with pytest.raises(EncodingError, match="lone surrogate at position 2"):
        encode("str", "ab\ud800")


@pytest.mark.parametrize(
    ("result", "path"),
    [
        (Model({"layer": [1, threading.Lock()]}), "result.weights['layer'][1]"),
        ([0, {"f": lambda: 0}], "result[1]['f']"),
        (Model((1, Slotted())), "result.weights[1].lock"),
        ({(1, 2): threading.Lock()}, "result[key of type tuple]"),
        (Model(1.0, parts=[Model(2.0), Model(i for i in [1])]), "result.parts[1].weights"),
    ],
    ids=["attribute", "item", "slot", "key", "later part"],
)
def test_a_pickling_error_names_the_part_to_blame(result: Any, path: str) -> None:
    with pytest.raises(EncodingError) as caught:
        encode("pickle", result)
    assert f"cannot be pickled because of {path}, of type " in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_result_that_is_itself_to_blame_is_named_once() -> None:
    with pytest.raises(EncodingError, match=r"^result, of type _thread\.lock, cannot be pickled \(TypeError"):
        encode("pickle", threading.Lock())


def test_the_search_for_the_part_to_blame_ends_in_a_cycle() -> None:
    cycle: list[Any] = []
    cycle += [cycle, lambda: 0]
    with pytest.raises(EncodingError, match=r"because of result\[1\]"):
        encode("pickle", cycle)


def test_a_system_exit_while_pickling_is_an_encoding_error() -> None:
    class Leaving:
        def __reduce__(self) -> Any:
            raise SystemExit(1)

    with pytest.raises(EncodingError, match=r"because of result\[0\].*SystemExit: 1"):
        encode("pickle", [Leaving()])


@pytest.mark.parametrize("output_type", ["str", "bytes", "pickle"])
@pytest.mark.parametrize("multiple_results", [False, True])
def test_each_kind_is_accepted(output_type: str, multiple_results: bool) -> None:
    check_output_type(output_type, multiple_results)


def test_a_list_of_kinds_is_accepted_with_multiple_results() -> None:
    check_output_type(["str", "pickle"], True)
    check_output_type(("bytes",), True)


@pytest.mark.parametrize(
    ("output_type", "multiple_results", "text"),
    [
        ("json", False, r"output_type='json' is given, 'str' or 'bytes' or 'pickle' is wanted"),
        (None, False, "output_type=None is given"),
        (str, False, "output_type=<class 'str'> is given"),
        (b"str", False, "output_type=b'str' is given"),
        ({"str"}, True, "output_type={'str'} is given"),
        (["str"], False, "goes with multiple_results=True"),
        ([], True, r"output_type=\[\] is given, one of .* for each result is wanted"),
        (["str", "text"], True, r"output_type\[1\]='text' is given, 'str' or 'bytes' or 'pickle' is wanted"),
        (["str", ["pickle"]], True, r"output_type\[1\]=\['pickle'\] is given"),
    ],
)
def test_what_names_no_kind_is_refused(output_type: Any, multiple_results: bool, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        check_output_type(output_type, multiple_results)
