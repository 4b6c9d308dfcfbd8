"""FHIR bundles as a table: what FLAME's `fhir_to_csv` makes of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from typing import Any

from star_actors.errors import ConfigurationError
from star_actors.options import one_of

from .bundles import next_url

__all__ = ["fhir_to_csv", "held_pages"]

Bundle = dict[str, Any]
Table = dict[Any, dict[Any, Any]]

_RESOURCES = ("Observation", "QuestionnaireResponse")
_ITEM = 2  # a questionnaire's paths begin with "resource.item", and are followed from the item on


def fhir_to_csv(
    fhir_data: Bundle,
    col_key_seq: str,
    value_key_seq: str,
    input_resource: str,
    row_key_seq: str | None = None,
    row_id_filters: Sequence[str] | None = None,
    col_id_filters: Sequence[str] | None = None,
    row_col_name: str = "",
    separator: str = ",",
    output_type: str = "file",
    *,
    fetch_next: Callable[[str], Bundle] | None = None,
    notice: Callable[[str], object] | None = None,
) -> StringIO | Table:
    """Turn a bundle of Observations or QuestionnaireResponses into a table with one value per row and column.

    Arguments:
        fhir_data: one bundle, as in `data[0]["Observation?_count=100"]`.
        col_key_seq, value_key_seq, row_key_seq: dotted paths to a column's id, a value and a row's id, from the
            bundle's entry on: "resource.subject.reference". A list on the way is searched: its first element that
            leads to a value counts. A path that breaks off before its last key gives None. Where the last key is
            missing, the first key that contains it is taken, so that "value" finds "valueDecimal".
        input_resource: "Observation", one value per entry, needs `row_key_seq`. "QuestionnaireResponse", one value per
            item of each entry: paths begin with "resource.item", and rows are numbered "0", "1", ... by entry.
        row_id_filters, col_id_filters: keep only ids that contain one of these strings. As on FLAME, a questionnaire's
            rows are not filtered, and an Observation's column filters do not count where row filters are given.
        row_col_name: the heading over the row ids.
        separator: one character between the values.
        output_type: "file" for CSV text, "dict" for `{column: {row: value}}`.
        fetch_next: called with the address in the bundle's `next` link, returns that page's bundle; pages are followed
            to the last. Without it the given bundle is all.
        notice: called with one sentence for each way in which FLAME's own `fhir_to_csv` would end differently.

    Returns a StringIO at its beginning (lines end in "\\n", the last without), or the dict. A later value for the same
    row and column replaces an earlier one. Cells without a value are empty; None stands as "None".

    Differs from FLAME 0.6.0 where that breaks: fields that hold the separator, a quote or a line break are quoted
    (FLAME joins them bare, which shifts the columns); a bundle may lack `total` and `link`; and a questionnaire's rows
    are numbered through all pages (FLAME begins each page at "0" again, over the rows of the page before).

    Raises ConfigurationError where FLAME fails too: a resource of another kind, Observation without `row_key_seq`, a
    bundle without `entry` (an empty search result has none), a last key that nothing matches, an id that is no plain
    value, a filter on an id that is not a string; and for pages that lead in a circle.
    Source: FLAME's SDK, `fhir_to_csv`.
    """
    one_of("input_resource", input_resource, _RESOURCES)
    one_of("output_type", output_type, ("file", "dict"))
    tell = notice or _ignore
    if not isinstance(separator, str) or len(separator) != 1 or separator in '\r\n"':
        raise ConfigurationError(f"separator={separator!r} is given, one character is wanted, e.g. ',' or ';'")
    questionnaire = input_resource == "QuestionnaireResponse"
    columns = _Path("col_key_seq", col_key_seq, questionnaire)
    values = _Path("value_key_seq", value_key_seq, questionnaire)
    row_filters = _filters("row_id_filters", row_id_filters)
    col_filters = _filters("col_id_filters", col_id_filters)
    if questionnaire and row_filters is not None:
        tell("row_id_filters are given, and a QuestionnaireResponse's rows are not filtered, on FLAME neither")
    table: Table = {}
    pages = _pages(fhir_data, fetch_next, tell)
    if questionnaire:
        for row, column, value in _answers(pages, columns, values, tell):
            if columns.kept(column, col_filters):
                table.setdefault(columns.plain(column), {})[row] = value
    else:
        if not row_key_seq:
            raise ConfigurationError(
                f"row_key_seq={row_key_seq!r} is given, an Observation needs a path such as 'resource.code.coding.code'"
            )
        rows = _Path("row_key_seq", row_key_seq, questionnaire)
        if row_filters is not None and col_filters is not None:
            tell("row_id_filters and col_id_filters are given; on FLAME, and so here, only the row filters count")
            col_filters = None
        for where, entry in _entries(pages):
            column, row = columns.find(entry, where), rows.find(entry, where)
            value = values.find(entry, where)
            if rows.kept(row, row_filters) and columns.kept(column, col_filters):
                table.setdefault(columns.plain(column), {})[rows.plain(row)] = value
    return _csv(table, row_col_name, separator, tell) if output_type == "file" else table


def held_pages(data: Sequence[dict[str, Bundle]]) -> Callable[[str], Bundle]:
    """A `fetch_next` over the pages that a node holds, in place of a server.

    `data` is the node's split, `[{query: bundle}]`. A link leads to the bundle under the query that it ends with, whole
    parts of the path counted; the longest where several do. On FLAME the query is what stands after "/fhir/".
    The callable raises ConfigurationError where no source holds the page.
    """

    def fetch(url: str) -> Bundle:
        ends = [(len(query), source[query]) for source in data for query in source if f"/{url}".endswith(f"/{query}")]
        if not ends:
            raise ConfigurationError(
                f"the bundle's next link {url!r} leads to a page that this node does not hold; put it into the split "
                "under the link's query, or read all pages at once (star_actors.data.from_fhir does)"
            )
        return max(ends, key=lambda end: end[0])[1]

    return fetch


class _Path:
    """A dotted path into an entry, and what FLAME finds by it."""

    def __init__(self, name: str, text: object, questionnaire: bool) -> None:
        self.name = name
        self.start = _ITEM if questionnaire else 0
        if not isinstance(text, str) or not text or len(text.split(".")) <= self.start:
            begin = "resource.item.linkId" if questionnaire else "resource.subject.reference"
            raise ConfigurationError(f"{name}={text!r} is given, a dotted path is wanted, e.g. {begin!r}")
        self.keys = text.split(".")
        self.last = len(self.keys) - 1

    def find(self, value: Any, where: str) -> Any:
        return self._find(value, self.start, where)

    def kept(self, found: Any, filters: Sequence[str] | None) -> bool:
        if filters is None:
            return True
        try:
            return found is not None and any(text in found for text in filters)
        except TypeError:
            raise ConfigurationError(
                f"{self.name}={'.'.join(self.keys)!r} leads to a value of type {type(found).__name__}, "
                "and a filter needs a string"
            ) from None

    def plain(self, found: Any) -> Any:
        if isinstance(found, dict | list):
            raise ConfigurationError(
                f"{self.name}={'.'.join(self.keys)!r} leads to a value of type {type(found).__name__}, "
                "a plain value is wanted: name one of the keys below it"
            )
        return found

    def _find(self, value: Any, level: int, where: str) -> Any:
        if isinstance(value, list):
            for element in value:
                found = self._find(element, level, where)
                if found is not None:
                    return found
            return None
        if not isinstance(value, dict):
            return None
        key = self.keys[level]
        if level < self.last:
            return self._find(value[key], level + 1, where) if key in value else None
        if key in value:
            return value[key]
        for name in value:
            if key in name:
                return value[name]
        there = ", ".join(map(repr, value)) or "nothing"
        raise ConfigurationError(
            f"{self.name}={'.'.join(self.keys)!r} finds no key with {key!r} in {where}, which has {there} there; "
            "FLAME's fhir_to_csv fails on it too, so leave such entries out before"
        )


def _answers(
    pages: Iterator[Bundle], columns: _Path, values: _Path, tell: Callable[[str], object]
) -> Iterator[tuple[str, Any, Any]]:
    """Row, column and value of every item; rows are numbered by entry, through all pages."""
    number = 0
    for page_number, page in enumerate(pages, 1):
        if page_number == 2:
            tell("a questionnaire's rows are numbered through all pages here; FLAME numbers each page from 0 again")
        for where, entry in _entries(iter([page]), page_number):
            resource = entry.get("resource") if isinstance(entry, dict) else None
            items = resource.get("item") if isinstance(resource, dict) else None
            if not isinstance(items, list):
                raise ConfigurationError(
                    f"{where} has no list 'item' in its 'resource', so it is no QuestionnaireResponse with answers; "
                    "FLAME's fhir_to_csv fails on it too, so leave such entries out before"
                )
            for item in items:
                yield str(number), columns.find(item, where), values.find(item, where)
            number += 1


def _pages(
    first: object, fetch_next: Callable[[str], Bundle] | None, tell: Callable[[str], object]
) -> Iterator[Bundle]:
    bundle, number = first, 1
    seen: set[str] = set()
    while True:
        if not isinstance(bundle, dict):
            advice = "; give one bundle of a source, e.g. data[0]['Observation']" if isinstance(bundle, list) else ""
            raise ConfigurationError(f"page {number} is of type {type(bundle).__name__}, a bundle is wanted{advice}")
        if not isinstance(bundle.get("entry"), list):
            within = [key for key, value in bundle.items() if isinstance(value, dict) and "entry" in value]
            advice = (
                f"give one of the bundles in it, e.g. data[0][{within[0]!r}]"
                if within
                else "an empty search result has none, and FLAME's fhir_to_csv fails on it too, so test for it before"
            )
            raise ConfigurationError(f"page {number} has no list 'entry': {advice}")
        for name in ("total", "link"):
            if name not in bundle and number == 1:
                tell(f"the bundle has no {name!r}, without which FLAME's fhir_to_csv fails")
        yield bundle
        try:
            following = next_url(bundle)
        except ValueError as error:
            raise ConfigurationError(f"page {number} is not a FHIR bundle: {error}") from error
        if following is None:
            return
        if fetch_next is None:
            tell("the bundle has a next link, which FLAME's fhir_to_csv follows, and nothing here to follow it with")
            return
        if following in seen:
            raise ConfigurationError(f"the next link of page {number} leads back to {following!r}, which has been read")
        seen.add(following)
        bundle, number = fetch_next(following), number + 1


def _entries(pages: Iterator[Bundle], first: int = 1) -> Iterator[tuple[str, Any]]:
    for page_number, page in enumerate(pages, first):
        for index, entry in enumerate(page["entry"]):
            yield f"entry {index} of page {page_number}", entry


def _filters(name: str, given: object) -> Sequence[str] | None:
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(text, str) for text in given):
        raise ConfigurationError(f"{name}={given!r} is given, a list of strings or None is wanted")
    return given


def _csv(table: Table, row_col_name: str, separator: str, tell: Callable[[str], object]) -> StringIO:
    lines = [[str(row_col_name), *map(str, table)]]
    rows = dict.fromkeys(row for column in table.values() for row in column)
    lines += ([str(row), *(str(column.get(row, "")) for column in table.values())] for row in rows)
    if lines == [[""]]:  # the csv module would write a pair of quotes
        return StringIO()
    text = StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(lines)
    written = text.getvalue().removesuffix("\n")
    if written != "\n".join(separator.join(line) for line in lines):
        tell("the table has fields with separators, quotes or line breaks: quoted here, bare and so broken on FLAME")
    return StringIO(written)


def _ignore(sentence: str) -> None:
    """Stands in for `notice` where nobody listens."""
