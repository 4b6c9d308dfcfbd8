"""Progress in plain lines, for a log that nobody watches: few, and ever fewer."""

from __future__ import annotations

from time import perf_counter
from typing import TextIO

from .sampling import Sampler

__all__ = ["LineProgress"]

_TIMES = (1, 2, 5, 10, 20, 30)


class LineProgress:
    """Writes a line after 1, 2, 5, 10, 20 and 30 seconds, and then one a minute; and one at the end."""

    interval = 0.25

    def __init__(self, sampler: Sampler, file: TextIO, stream: TextIO) -> None:
        self.stream = stream
        self._sampler = sampler
        self._file = file
        self._started = perf_counter()
        self._written = 0

    def tick(self) -> None:
        if perf_counter() - self._started >= self._due():
            self._written += 1
            print(self._sampler.sample().said(), file=self._file, flush=True)

    def close(self) -> None:
        if self._written:
            print(self._sampler.closing(), file=self._file, flush=True)

    def _due(self) -> float:
        n = self._written
        return _TIMES[n] if n < len(_TIMES) else 60.0 * (n - len(_TIMES) + 1)
