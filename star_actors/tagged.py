"""The report as JSON. What JSON has no word for is tagged, so that `load_report` restores it.

A tagged value is an object whose key "$" names the tag:

    {"$": "nan"}  {"$": "inf"}  {"$": "-inf"}                          floats that are no JSON numbers
    {"$": "int", "hex": "0x..."}                                       integers beyond 64 bits
    {"$": "array", "dtype": "<f8", "shape": [2, 3], "data": base64}    NumPy arrays, in C order ("items" for objects)
    {"$": "scalar", "dtype": "<f8", "value": 0.5}                      NumPy scalars ("data" where JSON has no number)
    {"$": "tuple", "items": [...]}                                     likewise "set" and "frozenset"
    {"$": "dict", "items": [[key, value], ...]}                        keys other than text, or a key "$"
    {"$": "bytes", "data": base64}                                     likewise "bytearray", "text" (not valid Unicode)
    {"$": "complex", "real": ..., "imag": ...}
    {"$": "datetime", "value": "..."}                                  likewise "date", "time", "timedelta", "path"
    {"$": "struct", "type": "star_actors...", "fields": {...}}         this package's own, such as Withheld
    {"$": "other", "type": "...", "repr": "..."}                       everything else: loaded as Opaque
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import importlib
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from .errors import ConfigurationError
from .findings import Finding
from .release.withheld import Withheld
from .report import Log, NodeInfo, NodeSeconds, Output, Report, Round

__all__ = ["Opaque", "dump_report", "load_report"]

_FORMAT = "star-actors report"
_VERSION = 1
_LISTS = {"outputs": Output, "rounds": Round, "nodes": NodeInfo, "logs": Log, "findings": Finding}
_LOG_WITHHELD = str(Withheld("log text withheld: privacy is on"))
_DEEPEST = 100
_LONGEST = 10_000
_NUMBERS = range(-(1 << 63), 1 << 64)
_FIXED = (type(None), dt.timezone)
_PLAIN_DTYPES = "biufcmMSU"
_DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError, msgspec.MsgspecError)


class Opaque(msgspec.Struct, frozen=True):
    """Stands in a loaded report for an object that JSON could only name: its `type` and its `repr`."""

    type: str
    repr: str


def dump_report(report: Report) -> bytes:
    """The report as UTF-8 JSON, one object with the report's own names.

    What has no tag of its own (see the module) stands by type and repr. The text of log lines is left out where
    privacy is on. Nothing that a report holds makes this fail.
    """
    document: dict[str, Any] = {"format": _FORMAT, "version": _VERSION}
    for name in report.__struct_fields__:
        value = getattr(report, name)
        document[name] = [_fields(part) for part in value] if name in _LISTS else value
    if report.privacy is not None:
        for log in document["logs"]:
            log["message"] = _LOG_WITHHELD
    return msgspec.json.encode(_Tagger().tag(document))


def load_report(source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> Report:
    """The report that `source` holds: the path of a JSON file that `Report.to_json` wrote, or its bytes.

    Raises ConfigurationError where there is no such file, it holds no report, or one of a newer format.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, data = "the bytes given", bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        name = repr(os.fspath(source))
        try:
            data = Path(source).read_bytes()
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{name[:200]} is given and cannot be read ({type(error).__name__}), the path of a JSON file that "
                "report.to_json() wrote is wanted, or its bytes"
            ) from error
    else:
        raise ConfigurationError(
            f"an object of type {type(source).__name__} is given, the path of a JSON file or its bytes are wanted"
        )
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_report(name, "not valid JSON") from error
    version = document.get("version") if type(document) is dict and document.get("format") == _FORMAT else None
    if type(version) is not int:
        raise _no_report(name, f"no object with the format {_FORMAT!r} and a version")
    if version > _VERSION:
        raise ConfigurationError(
            f"{name} holds a report of format version {version}, up to {_VERSION} can be read: upgrade star-actors"
        )
    try:
        return _report(_restore(document))
    except _DAMAGE as error:
        raise _no_report(name, f"damaged: {type(error).__name__}: {error}") from error


def _no_report(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{name} holds no report ({why}), what report.to_json() wrote is wanted")


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _report(document: dict[str, Any]) -> Report:
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Report):
        if field.name == "outputs":
            values["outputs"] = [_output(**part) for part in document["outputs"]]
        elif field.name in document:
            values[field.name] = msgspec.convert(document[field.name], field.type)
    return Report(**values)


def _output(kind: Any, value: Any, path: Any) -> Output:
    # By hand: msgspec has no validation for a union of str and bytes.
    if kind not in ("str", "bytes", "pickle") or not isinstance(value, str if kind == "str" else bytes):
        raise ValueError(f"an output of kind {kind!r} with a value of type {type(value).__name__}")
    if not isinstance(path, Path | None):
        raise ValueError(f"an output with a path of type {type(path).__name__}")
    return Output(kind, value, path)


class _Tagger:
    """Turns a value into what JSON can say. It remembers the containers that it is in, so that cycles end."""

    def __init__(self) -> None:
        self._inside: set[int] = set()

    def tag(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return value if _is_unicode(value) else {"$": "text", "data": value.encode("utf-8", "surrogatepass")}
        if kind is int:
            return value if value in _NUMBERS else {"$": "int", "hex": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$": str(value)}
        leaf = _LEAVES.get(kind)
        try:
            return leaf(self, value) if leaf is not None else self._container(value)
        except Exception as error:
            # A tzinfo, a property, a proxy: whatever the object does when looked at, the rest of the report is kept.
            return _named(value, f"<{type(error).__name__} when exported>")

    def _container(self, value: Any) -> Any:
        tagged = _container_tag(value)
        if tagged is None:
            return _other(value)
        if id(value) in self._inside:
            return _named(value, "<refers to itself>")
        if len(self._inside) >= _DEEPEST:
            return _named(value, f"<nested deeper than {_DEEPEST}>")
        self._inside.add(id(value))
        try:
            return tagged(self, value)
        finally:
            self._inside.discard(id(value))

    def items(self, values: Any) -> list[Any]:
        return [self.tag(value) for value in values]

    def mapping(self, value: Mapping[Any, Any]) -> dict[str, Any]:
        if all(type(key) is str and _is_unicode(key) for key in value) and "$" not in value:
            return {key: self.tag(part) for key, part in value.items()}
        return {"$": "dict", "items": [[self.tag(key), self.tag(part)] for key, part in value.items()]}

    def unordered(self, value: set[Any] | frozenset[Any]) -> dict[str, Any]:
        # Sorted, so that the same set gives the same bytes in every process.
        return {"$": type(value).__name__, "items": sorted(self.items(value), key=msgspec.json.encode)}

    def array(self, value: Any) -> dict[str, Any]:
        if value.dtype.kind == "O":
            return {"$": "array", "dtype": "O", "shape": list(value.shape), "items": self.items(value.flat)}
        if value.dtype.kind not in _PLAIN_DTYPES:
            return _other(value)
        return {"$": "array", "dtype": value.dtype.str, "shape": list(value.shape), "data": value.tobytes()}

    def scalar(self, value: Any) -> dict[str, Any]:
        kind = value.dtype.kind
        if kind not in _PLAIN_DTYPES:
            return _other(value)
        tagged = {"$": "scalar", "dtype": value.dtype.str}
        if kind in "biuSU" or (kind == "f" and value.itemsize <= 8 and math.isfinite(value)):
            return {**tagged, "value": self.tag(value.item())}
        return {**tagged, "data": value.tobytes()}

    def struct(self, value: Any) -> dict[str, Any]:
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value) if field.init]
        else:
            names = value.__struct_fields__
        fields = {name: self.tag(getattr(value, name)) for name in names}
        return {"$": "struct", "type": _type_name(type(value)), "fields": fields}

    def time(self, value: dt.time) -> dict[str, Any]:
        # A zone with rules has no offset without a date: the text would not name it.
        return {"$": "time", "value": value.isoformat()} if type(value.tzinfo) in _FIXED else _other(value)

    def datetime(self, value: dt.datetime) -> dict[str, Any]:
        tagged: dict[str, Any] = {"$": "datetime", "value": value.isoformat()}
        if value.fold:
            tagged["fold"] = 1
        zone = getattr(value.tzinfo, "key", None)
        return {**tagged, "zone": zone} if isinstance(zone, str) else tagged


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _escaped(text: str) -> str:
    return text if _is_unicode(text) else text.encode("ascii", "backslashreplace").decode()


def _type_name(kind: type) -> str:
    return _escaped(f"{kind.__module__}.{kind.__qualname__}")


def _named(value: object, text: str) -> dict[str, Any]:
    return {"$": "other", "type": _type_name(type(value)), "repr": _escaped(text)}


def _other(value: object) -> dict[str, Any]:
    try:
        text = str.__str__(repr(value))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: an object that cannot even be shown must not end an export
        return _named(value, f"<repr raised {type(error).__name__}>")
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... ({len(text)} characters)"
    return _named(value, text)


_Tag = Callable[[_Tagger, Any], Any]

_LEAVES: dict[type, _Tag] = {
    bytes: lambda _, value: {"$": "bytes", "data": value},
    bytearray: lambda _, value: {"$": "bytearray", "data": bytes(value)},
    complex: lambda tagger, value: {"$": "complex", "real": tagger.tag(value.real), "imag": tagger.tag(value.imag)},
    dt.datetime: _Tagger.datetime,
    dt.date: lambda _, value: {"$": "date", "value": value.isoformat()},
    dt.time: _Tagger.time,
    dt.timedelta: lambda _, value: {"$": "timedelta", "value": [value.days, value.seconds, value.microseconds]},
    type(Path()): lambda tagger, value: {"$": "path", "value": tagger.tag(str(value))},
    Opaque: lambda _, value: {"$": "other", "type": _escaped(value.type), "repr": _escaped(value.repr)},
}

_CONTAINERS: dict[type, _Tag] = {
    list: _Tagger.items,
    tuple: lambda tagger, value: {"$": "tuple", "items": tagger.items(value)},
    dict: _Tagger.mapping,
    set: _Tagger.unordered,
    frozenset: _Tagger.unordered,
    NodeSeconds: _Tagger.mapping,
}


def _container_tag(value: Any) -> _Tag | None:
    kind = type(value)
    tagged = _CONTAINERS.get(kind)
    if tagged is not None:
        return tagged
    if _is_ours(kind):
        return _Tagger.struct
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if kind is numpy.ndarray or kind is numpy.memmap:
            return _Tagger.array
        if issubclass(kind, numpy.generic):
            return _Tagger.scalar
    return None


def _is_ours(kind: type) -> bool:
    ours = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    return ours and (issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind))


def _restore(value: Any) -> Any:
    if type(value) is list:
        return [_restore(part) for part in value]
    if type(value) is not dict:
        return value
    if "$" not in value:
        return {key: _restore(part) for key, part in value.items()}
    return _RESTORE[value["$"]](value)


def _data(tagged: dict[str, Any]) -> bytes:
    return base64.b64decode(tagged["data"], validate=True)


def _restore_array(tagged: dict[str, Any]) -> Any:
    import numpy as np

    shape = tuple(tagged["shape"])
    if tagged["dtype"] != "O":
        return _from_bytes(_data(tagged), tagged["dtype"], shape)
    items = _restore(tagged["items"])
    if len(items) != math.prod(shape):
        raise ValueError(f"{len(items)} items for an array of shape {shape}")
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array.reshape(shape)


def _restore_scalar(tagged: dict[str, Any]) -> Any:
    import numpy as np

    if "value" in tagged:
        return np.dtype(tagged["dtype"]).type(_restore(tagged["value"]))
    return _from_bytes(_data(tagged), tagged["dtype"], ())[()]


def _from_bytes(data: bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    import numpy as np

    if not data:  # frombuffer refuses to read nothing
        array = np.zeros(shape, dtype)
        if array.nbytes:
            raise ValueError(f"no bytes for an array of shape {shape}")
        return array
    # A bytearray, so that the array can be written to.
    return np.frombuffer(bytearray(data), dtype).reshape(shape)


def _restore_datetime(tagged: dict[str, Any]) -> dt.datetime:
    value = dt.datetime.fromisoformat(tagged["value"])
    if "zone" in tagged:
        import zoneinfo

        # Where this machine does not have the zone's rules, the offset still names the same instant.
        with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError):
            value = value.replace(tzinfo=zoneinfo.ZoneInfo(tagged["zone"]))
    return value.replace(fold=tagged.get("fold", 0))


def _restore_struct(tagged: dict[str, Any]) -> Any:
    module, _, name = tagged["type"].rpartition(".")
    fields = _restore(tagged["fields"])
    # Only this package's own modules are imported, and none that would run by being imported.
    if module.partition(".")[0] == __name__.partition(".")[0] and "._" not in module:
        try:
            kind = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            kind = None
        if isinstance(kind, type) and _is_ours(kind):
            return kind(**fields)
    return Opaque(tagged["type"], repr(fields))


_RESTORE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nan": lambda _: math.nan,
    "inf": lambda _: math.inf,
    "-inf": lambda _: -math.inf,
    "int": lambda tagged: int(tagged["hex"], 16),
    "text": lambda tagged: _data(tagged).decode("utf-8", "surrogatepass"),
    "bytes": _data,
    "bytearray": lambda tagged: bytearray(_data(tagged)),
    "complex": lambda tagged: complex(_restore(tagged["real"]), _restore(tagged["imag"])),
    "tuple": lambda tagged: tuple(_restore(tagged["items"])),
    "set": lambda tagged: set(_restore(tagged["items"])),
    "frozenset": lambda tagged: frozenset(_restore(tagged["items"])),
    "dict": lambda tagged: {_restore(key): _restore(part) for key, part in tagged["items"]},
    "array": _restore_array,
    "scalar": _restore_scalar,
    "datetime": _restore_datetime,
    "date": lambda tagged: dt.date.fromisoformat(tagged["value"]),
    "time": lambda tagged: dt.time.fromisoformat(tagged["value"]),
    "timedelta": lambda tagged: dt.timedelta(*tagged["value"]),
    "path": lambda tagged: Path(_restore(tagged["value"])),
    "struct": _restore_struct,
    "other": lambda tagged: Opaque(tagged["type"], tagged["repr"]),
}
