"""Numbers, durations, sizes and values as short text: plain ASCII, one line, bounded in length and in cost."""

from __future__ import annotations

import math
import re
import reprlib
import sys
from typing import Any

__all__ = ["amount", "count", "duration", "number", "shown", "size", "visible"]


def number(value: float, digits: int = 6) -> str:
    """A number with up to `digits` significant digits."""
    if isinstance(value, int) and abs(value) < 10**12:
        return str(value)
    return f"{float(value):.{digits}g}"


def amount(value: float | None) -> str:
    """How much something changed: two significant digits, nothing where it is not known."""
    if not value:
        return "" if value is None else "0"
    return f"{value:#.2g}".removesuffix(".")


def duration(seconds: float) -> str:
    """A time span, from "0.02 ms" to "2 h 05 min"."""
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.3g} ms" if milliseconds >= 0.1 or not seconds else f"{milliseconds:.2g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def size(nbytes: float) -> str:
    """A number of bytes, from "48 B" to "1.2 TB"."""
    value = float(nbytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def count(n: int, thing: str) -> str:
    """`n` things: "1 round", "10,000 rounds"."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def shown(value: Any, limit: int = 200) -> str:
    """A value as one line of at most `limit` characters, whatever its own `repr` does."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        value = value.item()
    try:
        text = " ".join(_short(limit).repr(value).split())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: what cannot be shown must not end the showing
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    text = visible(text)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _short(limit: int) -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxlevel = 5
    short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = short.maxdict = short.maxarray = 20
    short.maxstring = short.maxother = short.maxlong = limit
    return short


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def visible(text: str) -> str:
    """`text` with control characters (other than tab and newline) and lone surrogates written out, as `\\x1b`."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)
