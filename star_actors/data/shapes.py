"""How data_splits differ from what FLAME will hand over, as one text."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any

from star_actors.options import one_of

__all__ = ["describe_mismatch"]

_WANTED = {
    "s3": (bytes, "a list with one {name: bytes} dict per S3 source"),
    "fhir": (dict, "a list with one {query: bundle} dict per FHIR source"),
}
_ADVICE = {
    "s3": "FLAME hands over files as bytes, for the analysis to parse; star_actors.data.from_folders and from_s3 too.",
    "fhir": "FLAME hands over parsed FHIR bundles; star_actors.data.from_folders and from_fhir too.",
}
_NODES_SHOWN = 5
_KINDS_SHOWN = 6
_STR = frozenset({str})

_Difference = tuple[str, str]  # what is there, and the path to it inside the split ("" for the split itself)


def describe_mismatch(data_splits: Iterable[Any], data_type: str) -> str | None:
    """Say how `data_splits` differ from what FLAME will hand over, or None where all of them agree with it.

    Arguments:
        data_splits: one split per node. Anything is legal data; only types are looked at, never truth or equality,
            so DataFrames and arrays of any size are safe and cheap.
        data_type: "s3", where FLAME hands over `[{name: bytes}]`, or "fhir", where it hands over `[{query: bundle}]`;
            one dict for each source of the node, `{}` for a source of the other kind.

    Returns one text for all splits: how many differ, which nodes, and how; equal differences stand together. Values of
    the data are never shown, only types and keys.

    Raises ConfigurationError for another `data_type`. Source: FLAME's `get_s3_data` and `get_fhir_data`.
    """
    one_of("data_type", data_type, ("s3", "fhir"))
    leaf, shape = _WANTED[data_type]
    nodes: dict[str, list[int]] = {}
    first: dict[str, str] = {}
    count = differing = 0
    for number, split in enumerate(data_splits):
        count += 1
        difference = _difference(split, leaf)
        if difference is not None:
            differing += 1
            what, where = difference
            nodes.setdefault(what, []).append(number)
            first.setdefault(what, where)
    if not differing:
        return None
    lines = [
        f"{differing} of {count} data splits {'differs' if differing == 1 else 'differ'} from what FLAME hands over "
        f"for data_type={data_type!r}, {shape}:"
    ]
    shown = list(nodes)[:_KINDS_SHOWN]
    for what in shown:
        place = f" (first at node_{nodes[what][0]}, data{first[what]})" if first[what] else ""
        lines.append(f"  {_names(nodes[what])}: {what}{place}")
    hidden = sum(len(nodes[what]) for what in nodes if what not in shown)
    if hidden:
        lines.append(f"  and {hidden} more in {len(nodes) - len(shown)} other ways")
    lines.append(_ADVICE[data_type])
    return "\n".join(lines)


def _difference(split: Any, leaf: type) -> _Difference | None:
    # type() rather than isinstance: a proxy's __class__ may run code
    if issubclass(type(split), dict):
        if _is_resource(split, leaf):
            return "a FHIR resource itself, without the [{query: ...}] around it", ""
        if _source_difference(split, leaf, "") is None:
            return "a dict, without the list of sources around it", ""
    if not issubclass(type(split), list):
        return _a(split), ""
    in_shape = {leaf}
    for index, source in enumerate(split):
        if type(source) is dict and set(map(type, source)) <= _STR and set(map(type, source.values())) <= in_shape:
            continue  # the common case, at C speed
        where = f"[{index}]"
        if not issubclass(type(source), dict):
            return f"a list that holds {_a(source)}, where a source's dict is wanted", where
        if _is_resource(source, leaf):
            return "a list that holds a FHIR resource itself, without the {query: ...} around it", where
        difference = _source_difference(source, leaf, where)
        if difference is not None:
            return difference
    return None


def _source_difference(source: dict[Any, Any], leaf: type, where: str) -> _Difference | None:
    if not all(issubclass(kind, str) for kind in set(map(type, source))):
        key = next(key for key in source if not issubclass(type(key), str))
        return f"a dict with a key that is {_a(key)}, where str is wanted", where
    if not all(issubclass(kind, leaf) for kind in set(map(type, source.values()))):
        key, value = next((key, value) for key, value in source.items() if not issubclass(type(value), leaf))
        what = f"a dict with a value that is {_a(value)}, where {leaf.__name__} is wanted"
        return what, f"{where}[{_KEYS.repr(key)}]"
    return None


def _is_resource(value: dict[Any, Any], leaf: type) -> bool:
    return leaf is dict and issubclass(type(value.get("resourceType")), str)


def _a(value: object) -> str:
    kind = type(value)
    if value is None:
        return "None"
    module = str(kind.__module__).partition(".")[0]
    name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _names(numbers: list[int]) -> str:
    text = ", ".join(f"node_{number}" for number in numbers[:_NODES_SHOWN])
    more = len(numbers) - _NODES_SHOWN
    return f"{text} and {more} more" if more > 0 else text


_KEYS = reprlib.Repr()
_KEYS.maxstring = 60
