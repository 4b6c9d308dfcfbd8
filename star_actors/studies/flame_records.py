"""Records in FLAME's shapes: the rows of CSV files, and the patients of FHIR bundles."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from star_actors.data.bundles import entries_of, is_bundle
from star_actors.errors import ConfigurationError

from .csv_rows import CsvRows, merge, read_rows
from .records import Records

__all__ = ["flame_records"]

_Place = tuple[int, str]
_T = TypeVar("_T")


def flame_records(split: Any) -> Records | None:
    """The records of `[{name: bytes}]`, `[{query: bundle}]`, one bundle, or one CSV file; None for anything else.

    Raises ValueError, which says why, for files that are no CSV.
    """
    if isinstance(split, bytes):
        return _Files([{"": split}], bare=True)
    if is_bundle(split):
        return _Patients([{"": split}], bare=True)
    if type(split) is not list or not split or not all(type(source) is dict for source in split):
        return None
    values = [value for source in split for value in source.values()]
    if values and all(isinstance(value, bytes) for value in values):
        return _Files(split)
    if values and all(is_bundle(value) for value in values):
        return _Patients(split)
    return None


class _Files:
    """The rows of all CSV files of a split, source after source."""

    def __init__(self, sources: list[dict[str, bytes]], *, bare: bool = False) -> None:
        self._sources = sources
        self._bare = bare
        self._tables: list[dict[str, CsvRows]] = [
            {name: _read(name, data) for name, data in source.items()} for source in sources
        ]
        self._places = [
            (at, name, row)
            for at, source in enumerate(self._tables)
            for name, table in source.items()
            for row in range(len(table.rows))
        ]

    def __len__(self) -> int:
        return len(self._places)

    def without(self, index: int) -> Any:
        return self._with(index, ())

    def replaced(self, index: int, candidate: Any) -> Any:
        if isinstance(candidate, bytes):
            candidate = candidate.decode()
        if not isinstance(candidate, str):
            raise ConfigurationError(
                f"a candidate of type {type(candidate).__name__} is given, a row of the CSV file as str or "
                "bytes is wanted"
            )
        at, name, row = self._places[index]
        old = self._tables[at][name].rows[row]
        ending = old[len(old.rstrip("\r\n")) :]
        return self._with(index, (candidate.rstrip("\r\n") + ending,))

    def pooled(self, others: Sequence[_Files]) -> Any:
        def join(name: str, tables: list[CsvRows]) -> bytes:
            try:
                return merge(tables).to_bytes()
            except ValueError as error:
                raise ValueError(f"the files {name!r}: {error}") from None

        return _bare(_by_name([part._tables for part in (self, *others)], join), self._bare)

    def _with(self, index: int, rows: tuple[str, ...]) -> Any:
        at, name, row = self._places[index]
        table = self._tables[at][name]
        kept = table.rows[:row] + rows + table.rows[row + 1 :]
        changed = CsvRows(table.header, table.columns, kept, table.delimiter, table.mark).to_bytes()
        return _bare(_put(self._sources, (at, name), changed), self._bare)


class _Patients:
    """The patients of all bundles of a split: one record is every entry of one patient, in whatever bundle.

    Entries that name no patient are a record each.
    """

    def __init__(self, sources: list[dict[str, Any]], *, bare: bool = False) -> None:
        self._sources = sources
        self._bare = bare
        self._owners: dict[_Place, list[Any]] = {}
        owners: dict[Any, _Place] = {}
        unnamed = itertools.count()
        for at, source in enumerate(sources):
            for query, bundle in source.items():
                names = [_patient_of(entry) or next(unnamed) for entry in entries_of(bundle)]
                self._owners[at, query] = names
                for name in names:
                    owners.setdefault(name, (at, query))
        self._records = list(owners.items())

    def __len__(self) -> int:
        return len(self._records)

    def without(self, index: int) -> Any:
        return self._with(index, [])

    def replaced(self, index: int, candidate: Any) -> Any:
        entries = entries_of(candidate) if is_bundle(candidate) else candidate
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ConfigurationError(
                f"a candidate of type {type(candidate).__name__} is given, a list with the entries of one patient, or "
                "a bundle of them, is wanted"
            )
        return self._with(index, entries)

    def pooled(self, others: Sequence[_Patients]) -> Any:
        def join(name: str, bundles: list[Any]) -> Any:
            return _bundle(bundles[0], [entry for bundle in bundles for entry in entries_of(bundle)])

        return _bare(_by_name([part._sources for part in (self, *others)], join), self._bare)

    def _with(self, index: int, candidate: list[Any]) -> Any:
        owner, home = self._records[index]
        sources = self._sources
        for place, owners in self._owners.items():
            if owner in owners:
                bundle = self._sources[place[0]][place[1]]
                entries = entries_of(bundle)
                first = owners.index(owner)
                kept = [entry for entry, name in zip(entries, owners, strict=True) if name != owner]
                if place == home:
                    kept[first:first] = candidate
                sources = _put(sources, place, _bundle(bundle, kept))
        return _bare(sources, self._bare)


def _read(name: str, data: bytes) -> CsvRows:
    try:
        return read_rows(data)
    except ValueError as error:
        raise ValueError(f"the file {name!r}: {error}") from None


def _by_name(splits: list[list[dict[str, _T]]], join: Callable[[str, list[_T]], Any]) -> list[dict[str, Any]]:
    """Source by source, what has the same name everywhere; or what is alone in its source everywhere."""
    counts = {len(split) for split in splits}
    if len(counts) > 1:
        raise ValueError(f"they have different numbers of sources: {sorted(counts)}")
    pooled = []
    for sources in zip(*splits, strict=True):
        filled = [source for source in sources if source]
        names = {frozenset(source) for source in filled}
        if len(names) > 1 and any(len(source) > 1 for source in filled):
            raise ValueError(
                "which of their files or queries belong together is not clear, their names differ: "
                + " and ".join(str(sorted(some)) for some in sorted(names, key=sorted)[:3])
            )
        if len(names) > 1:
            name = next(iter(filled[0]))
            pooled.append({name: join(name, [value for source in filled for value in source.values()])})
        else:
            pooled.append({name: join(name, [source[name] for source in filled]) for name in (filled or [{}])[0]})
    return pooled


def _put(sources: list[dict[str, Any]], place: _Place, value: Any) -> list[dict[str, Any]]:
    at, name = place
    return [{**source, name: value} if i == at else source for i, source in enumerate(sources)]


def _bare(sources: list[dict[str, Any]], bare: bool) -> Any:
    return sources[0][""] if bare else sources


def _bundle(bundle: dict[str, Any], entries: list[Any]) -> dict[str, Any]:
    changed = {**bundle, "entry": entries}
    if "total" in bundle:
        changed["total"] = len(entries)
    # It is no page of any server's search any more.
    changed.pop("link", None)
    return changed


def _patient_of(entry: Any) -> str | None:
    """The id of the patient that an entry is, or is about."""
    resource = entry.get("resource") if isinstance(entry, dict) else None
    if not isinstance(resource, dict):
        return None
    if resource.get("resourceType") == "Patient":
        own = resource.get("id")
        return own if isinstance(own, str) and own else None
    for field in ("subject", "patient", "beneficiary"):
        reference = resource.get(field)
        target = reference.get("reference") if isinstance(reference, dict) else None
        if isinstance(target, str) and target:
            kind, _, own = target.rpartition("/")
            if kind == "Patient" or kind.endswith("/Patient"):
                return own
    return None
