"""The report's JSON: what goes out comes back, whatever it was, and what is no report is refused."""

from __future__ import annotations

import datetime as dt
import importlib
import json
import math
import subprocess
import sys
import threading
import zoneinfo
from collections import OrderedDict
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

import star_actors
from star_actors.errors import ConfigurationError
from star_actors.findings import Finding
from star_actors.options import Privacy
from star_actors.release.withheld import Withheld
from star_actors.report import Log, NodeInfo, NodeSeconds, Output, Release, Report, Round, Summary
from star_actors.tagged import Opaque, dump_report, load_report

pd: Any = importlib.import_module("pandas")  # its stubs are a package of their own


def again(value: Any) -> Any:
    """`value` as it comes back from a report's JSON."""
    return load_report(dump_report(Report(result=value))).result


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same, types and all, with NaN the same as NaN and 0.0 another than -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float) and not isinstance(a, np.generic):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex) and not isinstance(a, np.generic):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, np.ndarray) and a.dtype == object:
        return a.shape == b.shape and same(list(a.flat), list(b.flat))
    if isinstance(a, (np.ndarray, np.generic)):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (set, frozenset)):
        # Not sorted by repr: the order within a nested set differs from one copy to the next, and so does its text.
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    return bool(a == b)


def zones() -> st.SearchStrategy[dt.tzinfo | None]:
    offsets = st.integers(-86_399, 86_399).map(lambda seconds: dt.timezone(dt.timedelta(seconds=seconds)))
    return st.none() | st.just(dt.UTC) | offsets | st.timezones()


def dtypes() -> st.SearchStrategy[Any]:
    return st.one_of(
        st_np.scalar_dtypes(),
        st_np.byte_string_dtypes(),
        st_np.unicode_string_dtypes(),
        st.sampled_from(["longdouble", "clongdouble"]).map(np.dtype),
    )


HASHABLE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(1 << 70), 1 << 70),
        st.floats(),
        st.complex_numbers(),
        st.text(),
        st.text(st.characters(categories=["Cs", "L"])),
        st.binary(),
        st.datetimes(timezones=zones()),
        st.dates(),
        st.times(),
        st.timedeltas(),
        st.text("ab/.").map(Path),
        st_np.from_dtype(np.dtype("float32")),
        dtypes().flatmap(st_np.from_dtype),
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
VALUES = st.recursive(
    HASHABLE | st_np.arrays(dtypes(), st_np.array_shapes(min_dims=0, min_side=0, max_side=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(HASHABLE, max_size=3),
        st.dictionaries(st.text(max_size=3) | st.just("$"), inner, max_size=4),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.lists(inner, max_size=3).map(lambda items: _objects(items)),
    ),
    max_leaves=12,
)


def _objects(items: list[Any]) -> Any:
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert same(again(value), value)


@given(VALUES)
def test_the_same_value_gives_the_same_json_again(value: Any) -> None:
    data = dump_report(Report(result=value))
    assert dump_report(load_report(data)) == data


@given(VALUES)
def test_the_json_is_strict(value: Any) -> None:
    constants: list[str] = []
    json.loads(dump_report(Report(result=value)), parse_constant=constants.append)
    assert constants == []


@given(st.dictionaries(st.sampled_from(["$", "items", "data", "dtype", "value"]), st.text(max_size=5), max_size=4))
def test_a_dict_that_looks_like_a_tag_comes_back(value: dict[str, str]) -> None:
    assert again(value) == value


@pytest.mark.parametrize("value", [{"$": "nan"}, {"$": "tuple", "items": []}, {"a": {"$": {"$": 1}}}, {"$": None}])
def test_a_dict_that_is_a_tag_to_the_letter_comes_back(value: Any) -> None:
    assert again(value) == value


@pytest.mark.parametrize(
    "value", [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**5000], ids=int.bit_length
)
def test_a_whole_number_of_any_size_comes_back(value: int) -> None:
    assert again(value) == value


def test_plain_values_are_plain_json() -> None:
    value = {"a": [1, 2.5, "x", None, True]}
    assert json.loads(dump_report(Report(result=value)))["result"] == value


def test_a_numpy_number_can_be_read_in_the_json() -> None:
    written = json.loads(dump_report(Report(result=np.float64(5.46875))))["result"]
    assert written == {"$": "scalar", "dtype": "<f8", "value": 5.46875}


def test_an_array_tells_its_dtype_and_shape_in_the_json() -> None:
    written = json.loads(dump_report(Report(result=np.zeros((2, 3), "float32"))))["result"]
    assert (written["dtype"], written["shape"]) == ("<f4", [2, 3])


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_in_any_memory_order_comes_back(order: Any) -> None:
    array = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
    assert same(again(array), array)


def test_a_view_with_strides_comes_back() -> None:
    array = np.arange(10)[::-3]
    assert np.array_equal(again(array), array)


def test_the_bits_of_a_nan_come_back_in_an_array() -> None:
    array = np.array([0x7FF8DEADBEEF0001], dtype="u8").view("f8")
    assert again(array).tobytes() == array.tobytes()


def test_an_array_that_comes_back_can_be_written_to() -> None:
    array = again(np.zeros(2))
    array[0] = 1.0
    assert array.tolist() == [1.0, 0.0]


def test_a_datetime_keeps_its_zone() -> None:
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    back = again(dt.datetime(2024, 10, 27, 2, 30, tzinfo=zone, fold=1))
    assert (back.tzinfo, back.fold, back.utcoffset()) == (zone, 1, dt.timedelta(hours=1))


def test_sets_give_the_same_bytes_in_every_process() -> None:
    script = (
        "from star_actors.report import Report; import sys;"
        "sys.stdout.buffer.write(Report(result={'a', 'b', 'c', 'd', 'e'}).to_json())"
    )
    run = [
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, env={"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    ]
    assert run[0].stdout == run[1].stdout


class Colour(IntEnum):
    RED = 1


class Point(NamedTuple):
    x: float


class Shown:
    def __repr__(self) -> str:
        return "Shown()"


class RaisingRepr:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error


@pytest.mark.parametrize(
    ("value", "type_name", "text"),
    [
        (Decimal("1.5"), "decimal.Decimal", "Decimal('1.5')"),
        (Fraction(1, 3), "fractions.Fraction", "Fraction(1, 3)"),
        (Colour.RED, f"{__name__}.Colour", "<Colour.RED: 1>"),
        (Point(1.5), f"{__name__}.Point", "Point(x=1.5)"),
        (Shown(), f"{__name__}.Shown", "Shown()"),
        (range(3), "builtins.range", "range(0, 3)"),
        (..., "builtins.ellipsis", "Ellipsis"),
        (OrderedDict(a=1), "collections.OrderedDict", repr(OrderedDict(a=1))),
        (pd.DataFrame({"a": [1]}), "pandas.core.frame.DataFrame", "   a\n0  1"),
        (pd.Timestamp("2024-01-01"), "pandas._libs.tslibs.timestamps.Timestamp", "Timestamp('2024-01-01 00:00:00')"),
        (np.ma.array([1]), "numpy.ma.MaskedArray", None),
        (np.zeros(1, "i4,f8"), "numpy.ndarray", "array([(0, 0.)], dtype=[('f0', '<i4'), ('f1', '<f8')])"),
        (RaisingRepr(ValueError("x")), f"{__name__}.RaisingRepr", "<repr raised ValueError>"),
        (RaisingRepr(SystemExit(1)), f"{__name__}.RaisingRepr", "<repr raised SystemExit>"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_anything_else_comes_back_by_type_and_repr(value: Any, type_name: str, text: str | None) -> None:
    assert again([value]) == [Opaque(type_name, repr(value) if text is None else text)]


def test_an_opaque_value_stays_what_it_is_when_exported_again() -> None:
    once = again(Decimal(1))
    assert again(once) == once


def test_a_repr_that_is_not_valid_text_is_escaped() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "\ud800"

    assert again(Odd()).repr == "\\ud800"


def test_a_long_repr_is_cut_and_says_so() -> None:
    class Long:
        def __repr__(self) -> str:
            return "x" * 20_000

    assert again(Long()).repr == "x" * 10_000 + "... (20000 characters)"


def test_an_object_that_raises_when_looked_at_does_not_end_the_export() -> None:
    class BadZone(dt.tzinfo):
        def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
            raise RuntimeError

        def dst(self, _: dt.datetime | None) -> None:
            return None

        def tzname(self, _: dt.datetime | None) -> None:
            return None

    value = [1, dt.datetime(2024, 1, 1, tzinfo=BadZone())]
    assert again(value) == [1, Opaque("datetime.datetime", "<RuntimeError when exported>")]


def test_a_cycle_ends_where_it_closes() -> None:
    value: dict[str, Any] = {"a": 1}
    value["self"] = [value]
    assert again(value) == {"a": 1, "self": [Opaque("builtins.dict", "<refers to itself>")]}


def test_a_cycle_through_an_array_of_objects_ends() -> None:
    array = np.empty(1, dtype=object)
    array[0] = [array]
    assert again(array)[0] == [Opaque("numpy.ndarray", "<refers to itself>")]


def test_the_same_object_twice_is_no_cycle() -> None:
    part = [1]
    assert again([part, part]) == [[1], [1]]


def test_a_value_nested_beyond_reason_is_cut() -> None:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    back = again(value)
    depth = 0
    while isinstance(back, list):
        back, depth = back[0], depth + 1
    assert depth > 50
    assert back == Opaque("builtins.list", "<nested deeper than 100>")


def test_the_deepest_values_that_are_kept_come_back() -> None:
    value: Any = 1
    for i in range(90):
        value = {(i,): value}
    assert again(value) == value


@pytest.mark.parametrize(
    "value",
    [Withheld(), Summary("ndarray", 80, (2, 5)), Privacy(epsilon=1.0, sensitivity=0.5), Release(0, "a", "b", 1, 1)],
)
def test_what_is_of_this_package_comes_back_as_itself(value: Any) -> None:
    assert again({"x": value}) == {"x": value}


def full_report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "result": (1, float("nan")),
        "outputs": [Output("str", "5", Path("out.txt")), Output("pickle", b"\x80\x04")],
        "rounds": [
            Round(0, Summary("list", 100), 0.5, {}, 10, 20),
            Round(1, Withheld(), 0.25, NodeSeconds(["node_0", "node_1"], [0.125, float("inf")]), 10, 20),
        ],
        "nodes": [NodeInfo("node_0", "default"), NodeInfo("node_1", "aggregator", False, "worker thread", 3, True, 50)],
        "logs": [
            Log("node_0", "default", None, "info", "patient \ud800"),
            Log("node_1", "aggregator", 1, "notice", "y"),
        ],
        "stop_reason": "converged",
        "warnings": ["history: 3 older rounds were dropped"],
        "findings": [Finding("message-size", "too long", "send less", "node_0", 1, "result['a']")],
        "privacy": None,
        "seconds": 0.75,
    }
    return Report(**{**values, **changes})


def test_a_whole_report_comes_back() -> None:
    report = full_report(result=(1, 2))
    assert load_report(report.to_json()) == report


def test_the_json_has_the_report_s_own_names() -> None:
    document = json.loads(full_report().to_json())
    assert list(document) == ["format", "version", *Report.__struct_fields__]
    assert list(document["rounds"][0]) == list(Round.__struct_fields__)


def test_node_seconds_stand_by_node_id() -> None:
    document = json.loads(full_report().to_json())
    assert document["rounds"][1]["node_seconds"] == {"node_0": 0.125, "node_1": {"$": "inf"}}


def test_an_empty_report_comes_back() -> None:
    assert load_report(dump_report(Report())) == Report()


def test_log_text_is_left_out_where_privacy_is_on() -> None:
    report = full_report(privacy=Privacy(epsilon=1.0, sensitivity=1.0))
    logs = load_report(dump_report(report)).logs
    assert [log.message for log in logs] == ["<log text withheld: privacy is on>"] * 2
    assert [(log.node_id, log.round, log.log_type) for log in logs] == [
        ("node_0", None, "info"),
        ("node_1", 1, "notice"),
    ]


def test_leaving_log_text_out_of_the_export_leaves_the_report_as_it_was() -> None:
    report = full_report(privacy=Privacy(epsilon=1.0, sensitivity=1.0))
    dump_report(report)
    assert report.logs[1].message == "y"


def test_a_report_loads_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(full_report(result=1).to_json())
    assert load_report(path) == load_report(str(path)) == full_report(result=1)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_report_loads_from_bytes(kind: Any) -> None:
    assert load_report(kind(dump_report(Report(result=1)))).result == 1


def test_a_report_of_an_earlier_version_of_the_package_may_lack_fields() -> None:
    document = json.loads(dump_report(Report(result=1)))
    del document["findings"], document["seconds"]
    assert load_report(json.dumps(document).encode()) == Report(result=1)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "no object with the format"),
        (b'{"rounds": []}', "no object with the format"),
        (b'{"format": "star-actors report"}', "no object with the format"),
        (b'{"format": "star-actors report", "version": "1"}', "no object with the format"),
        (b'{"format": "star-actors report", "version": 1}', "damaged"),
        (b'{"format": "star-actors report", "version": 2}', "format version 2, up to 1 can be read: upgrade"),
    ],
)
def test_what_is_no_report_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        load_report(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rounds", 5),
        ("rounds", [{"number": "x"}]),
        ("outputs", [{"kind": "str", "value": 1, "path": None}]),
        ("outputs", [{"kind": "json", "value": "", "path": None}]),
        ("outputs", [{"kind": "str", "value": "", "path": "out"}]),
        ("outputs", [{"kind": "str"}]),
        ("stop_reason", "bored"),
        ("seconds", "long"),
        ("result", {"$": "no such tag"}),
        ("result", {"$": ["nan"]}),
        ("result", {"$": "tuple"}),
        ("result", {"$": "tuple", "items": 3}),
        ("result", {"$": "set", "items": [[]]}),
        ("result", {"$": "bytes", "data": "?"}),
        ("result", {"$": "int", "hex": "ten"}),
        ("result", {"$": "date", "value": "soon"}),
        ("result", {"$": "timedelta", "value": [1e300]}),
        ("result", {"$": "array", "dtype": "f8", "shape": [2], "data": ""}),
        ("result", {"$": "array", "dtype": "f8", "shape": [2], "data": "AAAA"}),
        ("result", {"$": "array", "dtype": "f8", "shape": [10**12], "data": "AAAAAAAAAAA="}),
        ("result", {"$": "array", "dtype": "O", "shape": [10**12], "items": []}),
        ("result", {"$": "array", "dtype": "no", "shape": [], "data": ""}),
        ("result", {"$": "struct", "type": "star_actors.options.Privacy", "fields": {"epsilon": -1, "sensitivity": 1}}),
        ("result", {"$": "struct", "type": "star_actors.report.Summary", "fields": {}}),
    ],
)
def test_a_damaged_report_is_refused(field: str, value: Any) -> None:
    document = {**json.loads(dump_report(Report())), field: value}
    with pytest.raises(ConfigurationError, match="damaged"):
        load_report(json.dumps(document).encode())


@pytest.mark.parametrize(
    "type_name", ["os.system", "star_actors.report.Gone", "star_actors.gone.Gone", "star_actors.report.load"]
)
def test_a_struct_that_is_not_ours_is_not_made(type_name: str) -> None:
    document = json.loads(dump_report(Report()))
    document["result"] = {"$": "struct", "type": type_name, "fields": {"a": 1}}
    assert load_report(json.dumps(document).encode()).result == Opaque(type_name, "{'a': 1}")


def test_loading_imports_no_module_that_runs_by_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "__main__.py").write_text("class Main: pass")
    monkeypatch.setattr(star_actors, "__path__", [*star_actors.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "star_actors.__main__", raising=False)
    document = json.loads(dump_report(Report()))
    document["result"] = {"$": "struct", "type": "star_actors.__main__.Main", "fields": {}}
    load_report(json.dumps(document).encode())
    assert "star_actors.__main__" not in sys.modules


@pytest.mark.parametrize("source", ["no/such/file.json", ".", '{"format": "star-actors report"}' * 50, "a\0b"])
def test_a_path_that_cannot_be_read_is_refused(source: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_report(source)


@pytest.mark.parametrize("source", [None, 3, Report(), {"format": "star-actors report"}])
def test_what_is_neither_path_nor_bytes_is_refused(source: Any) -> None:
    with pytest.raises(ConfigurationError, match="the path of a JSON file or its bytes are wanted"):
        load_report(source)


def test_numpy_is_not_imported_where_no_value_needs_it() -> None:
    script = (
        "import sys; from star_actors.report import Report; from star_actors.tagged import load_report;"
        "load_report(Report(result={'a': [(1.5,), object(), float('nan')]}).to_json()); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_a_report_can_be_exported_from_a_deep_stack() -> None:
    value: Any = 1
    for i in range(90):
        value = {(i,): [value]}
    report = Report(result=value)

    def deep(levels: int) -> bytes:
        return deep(levels - 1) if levels else dump_report(report)

    assert isinstance(load_report(deep(sys.getrecursionlimit() - 300)), Report)


def test_a_lock_in_a_result_does_not_end_the_export() -> None:
    assert again({"lock": threading.Lock()})["lock"].type == "_thread.lock"
