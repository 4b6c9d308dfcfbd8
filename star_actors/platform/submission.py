"""The final result on its way to FLAME: checked for what its services would refuse, or release without noise."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import DeliveryError, PrivacyError
from ..options import is_number
from ..release.encoding import ENCODERS, Kind, type_name

__all__ = ["Submission", "prepare"]


class Submission(NamedTuple):
    """What `submit_final_result` is called with; `parts` is how many results that are."""

    result: Any
    output_type: Kind | list[Kind]
    multiple_results: bool
    filename: str | list[str] | None
    parts: int


def prepare(
    result: Any,
    output_type: Kind | list[Kind],
    multiple_results: bool,
    filename: str | list[str] | None,
    *,
    private: bool,
) -> Submission:
    """Check and encode a final result. Raises before anything is released.

    Raises PrivacyError where `private` and the node's result service cannot noise it (it takes one finite number a
    result), EncodingError where it does not fit its output type, DeliveryError where names or types do not match the
    number of results. FLAME itself would pickle what does not fit, and hang on what it cannot noise.
    """
    several = multiple_results and isinstance(result, (list, tuple))
    results = list(result) if several else [result]
    if not results:
        raise DeliveryError(
            "the result is an empty list and multiple_results=True is given: there is nothing to release; return at "
            "least one result from aggregation_method"
        )
    kinds = _kinds(output_type, len(results), several)
    first = filename[0] if isinstance(filename, list) else filename
    if several and isinstance(filename, list):
        _check_length("filename", filename, len(results))
    ready: list[Any] = []
    for i, (item, kind) in enumerate(zip(results, kinds, strict=True)):
        name = f"result[{i}]" if several else "the result"
        if private:
            ready.append(_number(item, name))
        else:
            encoded = ENCODERS[kind].encode(item, name)
            ready.append(item if kind == "pickle" else encoded)
    if len(ready) == 1:
        # FLAME does not split a list of one, so it would release the list.
        return Submission(ready[0], kinds[0], False, first, 1)
    return Submission(ready, kinds, True, filename, len(ready))


def _number(value: Any, name: str) -> int | float:
    if is_number(value):
        number = int(value) if isinstance(value, numbers.Integral) else float(value)
        if _finite(number):
            return number
        raise PrivacyError(
            f"{name} is not a finite number, so it cannot be noised, and nothing was released: find out where the "
            "infinity or NaN comes from"
        )
    raise PrivacyError(
        f"{name} is of type {type_name(value)}, and FLAME's result service adds noise to one int or float only, so "
        "nothing was released: return a number from aggregation_method, or a list of numbers with "
        "multiple_results=True (each is one draw and costs one epsilon)"
    )


def _finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int beyond what a float holds
        return False


def _kinds(output_type: Kind | list[Kind], count: int, several: bool) -> list[Kind]:
    if not isinstance(output_type, list):
        return [output_type] * count
    if not several:
        return output_type[:1]
    _check_length("output_type", output_type, count)
    return list(output_type)


def _check_length(what: str, given: Sequence[str], count: int) -> None:
    if len(given) != count:
        raise DeliveryError(
            f"{what}={given!r} has {len(given)} entries, and there are {count} results: give one entry for each, or a "
            "single str for all"
        )
