"""What a node's data are: how many rows, in which columns, of whom; whatever shape they were given in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .walk import is_array, is_column, is_table

__all__ = ["Rows", "rows_of", "single"]

MOST_ROWS = 10_000
"""How many rows are read."""
_MOST_COLUMNS = 50
_MOST_BYTES = 1 << 20
_SCALARS = (int, float, complex, str, bytes, bool, type(None))
_KEY_NAME = re.compile(
    r"(^|[^a-z])(id|ids|key|mrn|ssn|uuid|guid|pid|iban|e-?mail|identifier|patient|subject|person|name|surname)$"
)
_DISTINCT = 5
"""From so many values that are all different, a column of text is taken to name its rows."""


@dataclass
class Rows:
    """`count` rows (None: not known to have any), `columns` by name ("" where they have none), and as far as the data
    say so the number of `patients` and the `identifiers` of rows and people."""

    count: int | None = None
    columns: list[tuple[str, list[Any]]] = field(default_factory=list)
    patients: int | None = None
    identifiers: set[str] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)


def rows_of(data: Any) -> Rows:
    """Read a node's data. Only types that are known are looked into, and at most 10,000 rows."""
    rows = _read(data)
    for name, column in rows.columns:
        _identify(name, column, rows)
    return rows


def single(data: Any) -> str | None:
    """ "row" or "patient" where the data are about one only, else None. Sees most data by a look at their length, since
    it is asked of every node."""
    if is_table(data) or is_column(data) or is_array(data):
        return "row" if getattr(data, "ndim", 2) and len(data) == 1 else None
    if type(data) in (list, tuple) and len(data) > 1 and type(data[0]) is not dict:
        return None
    bundles = [bundle for source in (data if type(data) in (list, tuple) else [data]) for bundle in _bundles(source)]
    if bundles:
        return "patient" if _people(bundles) == 1 else None
    if type(data) in (list, tuple) and data and type(data[0]) is dict and any(map(_is_long, data[0].values())):
        return None
    return "row" if _read(data).count == 1 else None


def _bundles(source: Any) -> list[dict[str, Any]]:
    values = [source, *source.values()] if type(source) is dict else []
    return [value for value in values if type(value) is dict and "resourceType" in value]


def _people(bundles: list[dict[str, Any]]) -> int:
    """How many patients bundles are about, as far as 2."""
    people: set[str] = set()
    for resource in _resources(bundles):
        _identify_resource(resource, Rows(), people)
        if len(people) > 1:
            break
    return len(people)


def _is_long(content: object) -> bool:
    return type(content) is bytes and content.count(b"\n", 0, 10_000) > 2


def _read(data: Any) -> Rows:
    if is_table(data):
        names = list(data.columns)[:_MOST_COLUMNS]
        columns = [(str(name), data[name].head(MOST_ROWS).to_list()) for name in names if names.count(name) == 1]
        return Rows(len(data), columns)
    if is_column(data):
        return Rows(len(data), [(str(data.name or ""), data.head(MOST_ROWS).to_list())])
    if is_array(data):
        if data.ndim == 0:
            return Rows()
        head = data[:MOST_ROWS]
        if data.ndim == 1:
            return Rows(len(data), [("", head.tolist())])
        if data.ndim == 2:
            return Rows(len(data), [("", head[:, i].tolist()) for i in range(min(_MOST_COLUMNS, data.shape[1]))])
        return Rows(len(data))
    if type(data) is dict:
        return _of_dict(data)
    if type(data) in (list, tuple):
        return _of_sequence(data)
    return Rows()


def _of_dict(data: dict[Any, Any]) -> Rows:
    values = list(data.values())
    bundles = [value for value in [data, *values] if type(value) is dict and "resourceType" in value]
    if bundles:
        return _of_resources(bundles)
    if values and all(type(value) is bytes for value in values):
        return _merged([_of_file(str(name), value) for name, value in data.items()])
    sized = [value for value in values if type(value) in (list, tuple) or is_array(value)]
    if sized and len(sized) == len(values) and len({len(value) for value in sized if _has_length(value)}) == 1:
        return _side_by_side([(str(name), value) for name, value in data.items()])
    return Rows()


def _of_sequence(data: Sequence[Any]) -> Rows:
    if not data:
        return Rows(0)
    kinds = set(map(type, data))
    if all(issubclass(kind, _SCALARS) for kind in kinds):
        return Rows(len(data), [("", list(data[:MOST_ROWS]))])
    if kinds == {dict}:
        if all(_is_source(element) for element in data):
            return _merged([_of_dict(element) for element in data])
        keys = [key for key in data[0] if all(key in record for record in data[:MOST_ROWS])][:_MOST_COLUMNS]
        return Rows(len(data), [(str(key), [record[key] for record in data[:MOST_ROWS]]) for key in keys])
    if all(is_array(element) or is_table(element) for element in data):
        if len({len(element) for element in data if _has_length(element)}) == 1:
            return _side_by_side([("", element) for element in data])
        return Rows()
    if kinds <= {list, tuple} and len(data) > 1 and _are_records(data):
        width = min(_MOST_COLUMNS, len(data[0]))
        return Rows(len(data), [("", [record[i] for record in data[:MOST_ROWS]]) for i in range(width)])
    return Rows()


def _are_records(data: Sequence[Any]) -> bool:
    same_length = len({len(element) for element in data}) == 1
    return same_length and all(isinstance(cell, _SCALARS) for element in data[:100] for cell in element)


def _is_source(element: dict[Any, Any]) -> bool:
    values = list(element.values())
    return "resourceType" in element or all(
        type(value) is bytes or (type(value) is dict and "resourceType" in value) for value in values
    )


def _side_by_side(columns: list[tuple[str, Any]]) -> Rows:
    found = [(name, _read(column)) for name, column in columns]
    counts = {rows.count for _, rows in found}
    if len(counts) != 1:
        return Rows()
    return Rows(counts.pop(), [(name or inner, column) for name, rows in found for inner, column in rows.columns])


def _merged(found: list[Rows]) -> Rows:
    known = [rows for rows in found if rows.count is not None]
    if not known:
        return Rows()
    whole = Rows(sum(rows.count or 0 for rows in known))
    counts = [rows.patients for rows in known if rows.patients is not None]
    whole.patients = max(counts) if counts else None
    for rows in known:
        whole.columns += rows.columns
        whole.identifiers |= rows.identifiers
    return whole


def _of_file(name: str, content: bytes) -> Rows:
    """The rows of a file with a header, `.csv` or `.tsv`."""
    separator = {"csv": ",", "tsv": "\t"}.get(name.rpartition(".")[2].lower())
    if separator is None:
        return Rows()
    count = sum(1 for line in content.splitlines() if line.strip()) - 1
    text = content[:_MOST_BYTES].decode("utf-8", "replace")
    try:
        lines = [line for line in csv.reader(io.StringIO(text), delimiter=separator) if line][: MOST_ROWS + 1]
    except csv.Error:  # no table after all
        return Rows()
    if len(lines) < 2:
        return Rows(max(0, count))
    header = lines[0][:_MOST_COLUMNS]
    full = [line for line in lines[1:] if len(line) >= len(header)]
    return Rows(count, [(title, [_number_or_text(line[i]) for line in full]) for i, title in enumerate(header)])


def _number_or_text(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _of_resources(bundles: list[dict[str, Any]]) -> Rows:
    """The rows of FHIR bundles: their resources."""
    people: set[str] = set()
    rows = Rows(sum(len(_entries(bundle)) for bundle in bundles))
    for resource in _resources(bundles):
        _identify_resource(resource, rows, people)
    rows.patients = len(people) if people else None
    return rows


def _entries(bundle: dict[str, Any]) -> list[Any]:
    entries = bundle.get("entry", [] if bundle.get("resourceType") == "Bundle" else [{"resource": bundle}])
    return entries if type(entries) is list else []


def _resources(bundles: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for bundle in bundles:
        for entry in _entries(bundle)[:MOST_ROWS]:
            resource = entry.get("resource") if type(entry) is dict else None
            if type(resource) is dict:
                yield resource


def _identify_resource(resource: dict[str, Any], rows: Rows, people: set[str]) -> None:
    kind, own = resource.get("resourceType"), resource.get("id")
    if type(own) is str:
        rows.identifiers |= {own, f"{kind}/{own}"}
        if kind == "Patient":
            people.add(own)
    for name in ("subject", "patient", "source", "author"):
        reference = resource.get(name)
        reference = reference.get("reference") if type(reference) is dict else None
        if type(reference) is str:
            last = reference.rpartition("/")[2]
            rows.identifiers |= {reference, last}
            if name in ("subject", "patient") and "Group/" not in reference:
                people.add(last)
    identifiers = resource.get("identifier")
    for identifier in identifiers if type(identifiers) is list else [identifiers]:
        if type(identifier) is dict and type(identifier.get("value")) is str:
            rows.identifiers.add(identifier["value"])


def _identify(name: str, column: list[Any], rows: Rows) -> None:
    by_name = _KEY_NAME.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) is not None
    texts = [cell for cell in column if type(cell) is str]
    if by_name or (len(texts) == len(column) >= _DISTINCT and _all_different(texts)):
        rows.identifiers.update(text for text in texts if len(text) >= 2)
    if by_name:
        rows.numbers.update(cell for cell in column if type(cell) is int)


def _all_different(texts: Iterable[str]) -> bool:
    texts = list(texts)
    return len(set(texts)) == len(texts)


def _has_length(value: Any) -> bool:
    return not is_array(value) or value.ndim > 0
