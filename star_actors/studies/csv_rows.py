"""CSV files as rows of bytes: what is not touched stays as it was written, byte by byte."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace

__all__ = ["CsvRows", "merge", "read_rows"]

_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class CsvRows:
    """One file: the columns its `header` names (both None where its first row is data already) and its rows."""

    header: str | None
    columns: tuple[str, ...] | None
    rows: tuple[str, ...]
    delimiter: str
    mark: bool = False

    def to_bytes(self) -> bytes:
        """The file again."""
        lines = [*([] if self.header is None else [self.header]), *self.rows]
        end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
        text = "".join(line if line.endswith(("\n", "\r")) else line + end for line in lines[:-1]) + "".join(lines[-1:])
        return text.encode("utf-8-sig" if self.mark else "utf-8")


def read_rows(data: bytes) -> CsvRows:
    """Take a CSV file apart into its rows; quoted line breaks are within a row, blank lines are left out.

    The first row is taken for a header unless one of its cells is empty or a number. Raises ValueError, which says
    why, where `data` is not CSV in UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text in UTF-8 ({error.reason} at byte {error.start})") from None
    if text.lstrip()[:1] in ("{", "[", "<") or "\0" in text:
        raise ValueError("it is not CSV")
    lines = list(io.StringIO(text, newline=""))
    first = lines[0] if lines else ""
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(lines, delimiter=delimiter)
    rows: list[str] = []
    names: tuple[str, ...] | None = None
    start = 0
    try:
        for cells in reader:
            if cells:
                if not rows and _is_header(cells):
                    names = tuple(cells)
                rows.append("".join(lines[start : reader.line_num]))
            start = reader.line_num
    except csv.Error as error:
        raise ValueError(f"it is not CSV (line {reader.line_num}: {error})") from None
    header = None if names is None else rows.pop(0)
    return CsvRows(header, names, tuple(rows), delimiter, data.startswith(b"\xef\xbb\xbf"))


def merge(files: list[CsvRows]) -> CsvRows:
    """The rows of all files under the header of the first; columns in another order are put in its order.

    Files without any row or header are left out. Raises ValueError, which says why, where columns differ.
    """
    files = [file for file in files if file.rows or file.header is not None]
    if not files:
        return CsvRows(None, None, (), ",")
    first = files[0]
    rows: list[str] = []
    for file in files:
        rows.extend(_in_order(file, first))
    # Each row but the last of its file ends in a line break, and must in the middle of the merged one as well.
    return replace(first, rows=tuple(rows))


def _in_order(file: CsvRows, first: CsvRows) -> tuple[str, ...]:
    if file.columns is None or first.columns is None:
        if file.columns is not first.columns:
            raise ValueError("some of them have a header and some have none")
        if _width(file) != _width(first):
            raise ValueError(f"they have no header, and rows of {_width(first)} and of {_width(file)} cells")
        return file.rows if file.delimiter == first.delimiter else _rewritten(file, first, range(_width(first)))
    if file.columns == first.columns and file.delimiter == first.delimiter:
        return file.rows
    if sorted(file.columns) != sorted(first.columns):
        missing = sorted(set(first.columns) - set(file.columns))
        more = sorted(set(file.columns) - set(first.columns))
        said = [f"{what} {names}" for what, names in (("one lacks", missing), ("one also has", more)) if names]
        raise ValueError(f"their columns differ: {' and '.join(said) or 'names stand twice'}")
    if len(set(first.columns)) < len(first.columns):
        raise ValueError("columns of one name stand in different order")
    return _rewritten(file, first, [file.columns.index(name) for name in first.columns])


def _rewritten(file: CsvRows, first: CsvRows, order: range | list[int]) -> tuple[str, ...]:
    rows = []
    for row, cells in zip(file.rows, _cells(file), strict=True):
        if len(cells) != len(order):
            raise ValueError(f"a row has {len(cells)} cells, its header {len(order)}")
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=first.delimiter, lineterminator=_ending(row)).writerow([cells[i] for i in order])
        rows.append(out.getvalue())
    return tuple(rows)


def _cells(file: CsvRows) -> list[list[str]]:
    return [next(csv.reader(io.StringIO(row, newline=""), delimiter=file.delimiter)) for row in file.rows]


def _width(file: CsvRows) -> int:
    return len(next(csv.reader(io.StringIO(file.rows[0], newline=""), delimiter=file.delimiter)))


def _ending(row: str) -> str:
    return "\r\n" if row.endswith("\r\n") else "\n"


def _is_header(cells: list[str]) -> bool:
    return all(cell.strip() and not _is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
