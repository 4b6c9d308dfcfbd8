"""A small table as text, and as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from star_actors.display.notebook import STYLE

__all__ = ["as_html", "as_text"]

Rows = Sequence[Sequence[str]]


def as_text(title: str, head: Sequence[str], rows: Rows, notes: Sequence[str] = ()) -> str:
    """The title, the columns, the notes; the first column stands left, the others right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "  ".join(["", cells[0].ljust(widths[0]), *rest]).rstrip()

    return "\n".join([title, *([line(head)] if rows else []), *map(line, rows), *(f"  {note}" for note in notes)])


def as_html(title: str, head: Sequence[str], rows: Rows, notes: Sequence[str] = ()) -> str:
    """The same as a fragment of HTML that holds its own style."""

    def line(cells: Sequence[str], tag: str) -> str:
        return (
            "<tr>"
            + "".join(f"<{tag}{' class=n' if i else ''}>{escape(c)}</{tag}>" for i, c in enumerate(cells))
            + "</tr>"
        )

    body = "".join(line(row, "td") for row in rows)
    table = f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>" if rows else ""
    said = "".join(f'<p class="quiet">{escape(note)}</p>' for note in notes)
    return f'{STYLE}<div class="star-report"><p class="lead">{escape(title)}</p>{table}{said}</div>'
