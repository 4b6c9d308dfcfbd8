"""What is looked at once for a run, or by its aggregator: the classes, the data's shape, the result, and the logs; and
whether what was found ends it."""

from __future__ import annotations

import decimal
import fractions
import inspect
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import FindingsError
from ..findings import Finding
from .plan import LOOKED_AT
from .walk import is_array, is_number, parts

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..options import Checks
    from ..report import Log

__all__ = ["SecretWatch", "look_at_classes", "look_at_result", "look_at_shape", "strict_error"]

_METHODS = {"analyzer": ("analysis_method",), "aggregator": ("aggregation_method", "has_converged")}
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?(?![\w])")
_COUNTER = re.compile(r"(?:round|iteration|epoch|step|node|site|seed|epsilon)s?\W{0,3}$", re.IGNORECASE)
_DIGITS = 3
"""A rounded number repeats a value from so many digits on."""
_KEPT = 1_000
_LARGEST = 1e300


def look_at_classes(config: RunConfig, find: Callable[[Finding], object]) -> None:
    """Find `async def` methods, which FLAME's own star would not await."""
    for role, cls in (("analyzer", config.analyzer), ("aggregator", config.aggregator)):
        for name in _METHODS[role]:
            if inspect.iscoroutinefunction(inspect.unwrap(getattr(cls, name))):
                find(
                    Finding(
                        "async-method",
                        f"{cls.__name__}.{name} is async def: FLAME's own star does not await it, so it needs "
                        "star_actors on FLAME",
                        "deploy with star_actors' StarModel, or make it a def method",
                        None,
                        None,
                        f"{cls.__name__}.{name}",
                    )
                )


def look_at_shape(config: RunConfig, warn: Callable[[str], object]) -> None:
    """Warn, once, where the splits are not what FLAME hands over, and where nodes are too many to look at each."""
    from ..data.shapes import describe_mismatch

    text = describe_mismatch(config.data_splits, config.data_type)
    if text is not None:
        warn(text)
    if len(config.data_splits) > LOOKED_AT:
        warn(f"what the first {LOOKED_AT} nodes send was looked at for findings, and what the others send was not")


def look_at_result(result: Any, node_id: str, round: int, *, several: bool, find: Callable[[Finding], object]) -> None:
    """Find what FLAME's result service could not add noise to; `several`: each element is a result."""
    from ..release.privacy import flame_can_noise  # only a run with privacy asks, and loads all of it

    apart = several and type(result) in (list, tuple)
    for position, element in enumerate(result if apart else [result]):
        if not flame_can_noise(element):
            find(
                Finding(
                    "unnoisable-result",
                    f"privacy is asked for, and FLAME cannot noise a result of type {type(element).__name__}: it takes "
                    "one finite int or float, or several with multiple_results=True",
                    "deploy with star_actors' StarLocalDPModel, or return a single int or float",
                    node_id,
                    round,
                    f"result[{position}]" if apart else "result",
                )
            )
            return


def strict_error(checks: Checks, found: Sequence[Finding]) -> FindingsError | None:
    """The error that findings are with `Checks(strict=True)`; None without any."""
    if not checks.strict or not found:
        return None
    kinds = ", ".join(sorted({finding.kind for finding in found}))
    first = found[0]
    where = "" if first.node_id is None else f" at {first.node_id}"
    return FindingsError(
        f"Checks(strict=True): {len(found)} finding{'s' if len(found) > 1 else ''} ({kinds}). "
        f"The first{where}: {first.message}. To do: {first.advice}. All are in report.findings"
    )


class SecretWatch:
    """Finds log lines that repeat an exact value which noise protects. Lines may come before the value is known.

    What it keeps is for the run only, and is never shown.
    """

    def __init__(self, find: Callable[[Finding], object]) -> None:
        self._find = find
        self._lock = threading.RLock()  # a finalizer that logs may run wherever memory is allocated
        self._values: list[int | float] = []
        self._texts: list[str] = []
        self._waiting: list[Log] = []

    def logged(self, log: Log) -> None:
        """A node has logged a line."""
        with self._lock:
            if len(self._waiting) < _KEPT:
                self._waiting.append(log)
            repeats = self._repeats(log.message)
        if repeats:
            self._tell(log)

    def known(self, aggregate: Any) -> None:
        """The exact aggregate of a round is known: look at the lines since the last one."""
        values, texts = _secrets(aggregate)
        with self._lock:
            self._values, self._texts = values, texts
            waiting, self._waiting = self._waiting, []
            repeating = [log for log in waiting if self._repeats(log.message)]
        for log in repeating:
            self._tell(log)

    def _repeats(self, text: str) -> bool:
        if any(secret in text for secret in self._texts):
            return True
        return bool(self._values) and any(_is_value(token, value) for token in _tokens(text) for value in self._values)

    def _tell(self, log: Log) -> None:
        self._find(
            Finding(
                "disclosure",
                "a log line repeats the exact value that the noise protects; it is shown on the console, and on FLAME "
                "it is for everybody who may read the logs",
                "log that something happened, not what came out",
                log.node_id,
                log.round,
                "log",
            )
        )


def _secrets(aggregate: Any) -> tuple[list[int | float], list[str]]:
    numbers: list[int | float] = []
    texts: list[str] = []
    for _, part in parts(aggregate):
        if is_array(part):
            numbers += [v for v in part.ravel()[:_KEPT].tolist() if type(v) in (int, float)]
        elif isinstance(part, str):
            texts += [part] if len(part) >= 3 else []
        elif type(part) is int:
            numbers.append(part)
        elif isinstance(part, float | decimal.Decimal | fractions.Fraction) or is_number(part):
            with suppress(OverflowError):  # a fraction beyond what a float holds
                numbers.append(float(part))
    # Beyond it a number in a text cannot be compared; NaN is neither.
    return [value for value in numbers if -_LARGEST < value < _LARGEST][:_KEPT], texts[:_KEPT]


def _tokens(text: str) -> Iterator[str]:
    for match in _NUMBER.finditer(text):
        if not _COUNTER.search(text[max(0, match.start() - 16) : match.start()]):
            yield match.group()


def _is_value(token: str, value: int | float) -> bool:
    """Whether a number in a text is `value`, as it is or rounded to no fewer than three digits."""
    if float(token) == value:
        return True
    mantissa, _, exponent = token.lower().partition("e")
    digits = mantissa.lstrip("+-0.").replace(".", "")
    if len(digits) < _DIGITS:
        return False
    decimals = len(mantissa.partition(".")[2]) - (int(exponent) if exponent else 0)
    return abs(float(token) - value) <= 0.5000001 * 10.0**-decimals
