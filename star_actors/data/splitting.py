"""One table, or arrays in step, cut into parts that play the sites of a federation."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from star_actors.errors import ConfigurationError
from star_actors.options import is_number, one_of

if TYPE_CHECKING:
    import numpy as np

    Rows = np.ndarray[Any, np.dtype[np.intp]]  # row numbers, ascending

__all__ = ["split"]

How = Literal["iid", "by", "label", "size"]
Data = TypeVar("Data")

_HOW = ("iid", "by", "label", "size")
_ALPHA = 0.5


def split(
    data: Data,
    n: int | None = None,
    how: How | None = None,
    *,
    by: Any = None,
    label: Any = None,
    alpha: float | None = None,
    seed: int = 0,
) -> list[Data]:
    """Cut the rows of `data` into `n` parts, one per node: disjoint, complete, none of them empty.

    Arguments:
        data: a pandas or polars DataFrame or Series, a NumPy array (rows along its first axis), a list, or a tuple of
            these with equally many rows each, such as `(X, y)`, which is cut in step. It is not changed.
        n: how many parts. May be left out with `by`: one part for each value.
        how: "iid": rows at random, parts of equal size (give or take one row); the default.
            "by": rows with the same value stay together, e.g. one hospital's; the default where `by` is given. With
            `n`, whole groups are dealt out so that the parts come out as equal as they can, largest group first.
            "label": label-skewed: each label's rows are dealt out in proportions drawn from a Dirichlet distribution;
            the default where `label` is given.
            "size": the labels alike, the sizes of the parts drawn from a Dirichlet distribution.
        by, label: the column's name in a DataFrame, in the first frame of a tuple, or in a list of dicts; the column's
            number in a two-dimensional array; or one value for each row, as an array, Series or list. `label` may be
            left out for a tuple: its last element then holds the labels.
        alpha: of the Dirichlet distribution, with "label" and "size": the smaller, the more skewed; 0.5 by default, 100
            is close to even.
        seed: a whole number from 0; the same seed gives the same parts.

    Returns the list of parts, each of the kind of `data`, its rows in their former order. With "by" and no `n` the
    parts stand in ascending order of the values (of first appearance, where these cannot be compared).
    A part that a skewed draw would leave empty gets one row of the largest part.

    Raises ConfigurationError for more parts than rows or groups, a column that is not there, rows without a value in
    `by` or `label`, data of another kind, tuples whose rows differ in number, and arguments that do not go together.

    Source: label skew as in Yurochkin et al. 2019 (Bayesian nonparametric federated learning of neural networks),
    section 4; quantity skew as in Li et al. 2022 (Federated learning on non-IID data silos).
    """
    rows = _row_count(data)
    way = _checked_how(how, by, label, alpha)
    if rows == 0:
        raise ConfigurationError("data without rows is given, at least one row per part is wanted")
    if n is None and way != "by":
        raise ConfigurationError(f"how={way!r} needs n, the number of parts")
    if n is not None:
        n = _whole("n", n, 1)
        if n > rows:
            raise ConfigurationError(f"n={n} parts are asked of {rows} rows; at most one part per row can be had")
    seed = _whole("seed", seed, 0)
    if alpha is not None and (not is_number(alpha) or not math.isfinite(alpha) or alpha <= 0):
        raise ConfigurationError(f"alpha={alpha!r} is given, a finite number above 0 is wanted, e.g. {_ALPHA}")

    import numpy as np

    random = np.random.default_rng(seed)
    if n is None:
        parts = _groups(_values(data, by, "by", rows), "by")
    elif way == "by":
        parts = _dealt(_groups(_values(data, by, "by", rows), "by"), n)
    elif way == "label":
        parts = _label_skewed(_groups(_values(data, label, "label", rows), "label"), n, alpha or _ALPHA, random)
    elif way == "size":
        parts = _size_skewed(rows, n, alpha or _ALPHA, random)
    else:
        parts = [np.sort(part) for part in np.array_split(random.permutation(rows), n)]
    _check_partition(parts, rows)
    return [_take(data, part) for part in parts]


def _checked_how(how: str | None, by: object, label: object, alpha: object) -> str:
    if how is None:
        return _checked_how("by" if by is not None else "label" if label is not None else "iid", by, label, alpha)
    one_of("how", how, _HOW)
    if (how == "by") != (by is not None):
        wrong = "by is given too" if by is not None else "by, the column to go by, is not given"
        raise ConfigurationError(f"how={how!r} and {wrong}; `by` belongs to how='by'")
    if label is not None and how != "label":
        raise ConfigurationError(f"how={how!r} and label is given; `label` belongs to how='label'")
    if alpha is not None and how not in ("label", "size"):
        raise ConfigurationError(f"how={how!r} and alpha={alpha!r} is given; `alpha` belongs to how='label' and 'size'")
    return how


def _whole(name: str, given: object, least: int) -> int:
    import operator

    try:
        number = operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if isinstance(given, bool) or number < least:
        raise ConfigurationError(f"{name}={given!r} is given, a whole number from {least} is wanted")
    return number


def _row_count(data: Any) -> int:
    if isinstance(data, tuple):
        counts = [_row_count(element) for element in data]
        if not counts:
            raise ConfigurationError("an empty tuple is given, arrays with equally many rows are wanted, e.g. (X, y)")
        if len(set(counts)) > 1:
            raise ConfigurationError(f"a tuple with {counts} rows is given, equally many in each element are wanted")
        return counts[0]
    if isinstance(data, list):
        return len(data)
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple) and len(shape) > 0 and hasattr(data, "__getitem__"):
        return int(shape[0])
    advice = ": call its collect() first" if type(data).__name__ == "LazyFrame" else ""
    raise ConfigurationError(
        f"data of type {type(data).__name__} is given, a DataFrame, an array, a list, or a tuple of these is "
        f"wanted{advice}"
    )


def _take(data: Any, rows: Rows) -> Any:
    if isinstance(data, tuple):
        taken = [_take(element, rows) for element in data]
        return type(data)(*taken) if hasattr(data, "_fields") else tuple(taken)
    if isinstance(data, list):
        return [data[row] for row in rows.tolist()]
    if hasattr(data, "iloc"):
        return data.iloc[rows]
    return data[rows]


def _values(data: Any, column: Any, name: str, rows: int) -> list[Any]:
    """The column to go by, as plain values, one per row."""
    if column is None:
        if not isinstance(data, tuple) or len(data) < 2:
            raise ConfigurationError("how='label' needs label: a column, or one value per row")
        column = data[-1]
    found = column
    if isinstance(column, str):
        found = _named(data, column, name)
    elif type(column) is int:
        found = _numbered(data, column, name)
    listed = getattr(found, "tolist", None) or getattr(found, "to_list", None)  # polars has only the second
    values = listed() if listed else found
    if not isinstance(values, list | tuple):
        raise ConfigurationError(f"{name} is of type {type(found).__name__}, a column or one value per row is wanted")
    if len(values) != rows:
        raise ConfigurationError(f"{name} has {len(values)} values for {rows} rows, one per row is wanted")
    return list(values)


def _named(data: Any, column: str, name: str) -> Any:
    frames = [element for element in (data if isinstance(data, tuple) else (data,)) if hasattr(element, "columns")]
    if frames:
        there = list(frames[0].columns)
        if column in there:
            return frames[0][column]
    elif isinstance(data, list) and all(isinstance(row, Mapping) for row in data):
        if all(column in row for row in data):
            return [row[column] for row in data]
        there = list(dict.fromkeys(key for row in data for key in row))
        if column in there:
            missing = sum(column not in row for row in data)
            raise ConfigurationError(f"{name}={column!r} is missing in {missing} of {len(data)} rows; fill it in first")
    else:
        raise ConfigurationError(
            f"{name}={column!r} is given, and {type(data).__name__} data has no named columns; give one value per row"
        )
    shown = ", ".join(map(repr, there[:20])) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
    raise ConfigurationError(f"{name}={column!r} is not a column of data, which has {shown}")


def _numbered(data: Any, column: int, name: str) -> Any:
    if hasattr(data, "columns"):
        if column in list(data.columns):
            return data[column]
        raise ConfigurationError(f"{name}={column!r} is not a column of data, which has {list(data.columns)[:20]!r}")
    shape: tuple[int, ...] = getattr(data, "shape", ())
    if len(shape) != 2:
        raise ConfigurationError(
            f"{name}={column!r} is given, and data is not a two-dimensional array; give one value per row"
        )
    if not -shape[1] <= column < shape[1]:
        raise ConfigurationError(f"{name}={column!r} is given, and the array has columns 0 to {shape[1] - 1}")
    return data[:, column]


def _groups(values: list[Any], name: str) -> list[Rows]:
    """The rows of each distinct value; the values ascending where they can be compared."""
    import numpy as np

    found: dict[Any, list[int]] = {}
    missing = 0
    for row, value in enumerate(values):
        if value is None or _differs_from_itself(value):
            missing += 1
            continue
        try:
            found.setdefault(value, []).append(row)
        except TypeError:
            raise ConfigurationError(
                f"{name} holds a {type(value).__name__} in row {row}, plain values (numbers, texts) are wanted"
            ) from None
    if missing:
        raise ConfigurationError(f"{missing} of {len(values)} rows have no value in {name}; fill or drop them first")
    try:
        order = sorted(found)
    except TypeError:
        order = list(found)
    return [np.array(found[value], dtype=np.intp) for value in order]


def _differs_from_itself(value: Any) -> bool:
    """NaN and its kin; pandas' NA answers with an NA that has no truth."""
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def _dealt(groups: list[Rows], n: int) -> list[Rows]:
    import numpy as np

    if n > len(groups):
        raise ConfigurationError(
            f"n={n} parts are asked, and `by` has {len(groups)} values, whose rows stay together; leave n out for one "
            "part per value"
        )
    hands: list[list[Rows]] = [[] for _ in range(n)]
    smallest = [(0, number) for number in range(n)]  # a heap of sizes
    for group in sorted(groups, key=len, reverse=True):
        size, number = smallest[0]
        hands[number].append(group)
        heapq.heapreplace(smallest, (size + len(group), number))
    return [np.sort(np.concatenate(hand)) for hand in hands]


def _label_skewed(groups: list[Rows], n: int, alpha: float, random: np.random.Generator) -> list[Rows]:
    import numpy as np

    hands: list[list[int]] = [[] for _ in range(n)]
    for group in groups:
        counts = random.multinomial(len(group), _proportions(n, alpha, random))
        cuts = np.cumsum(counts)[:-1]
        for hand, share in zip(hands, np.split(random.permutation(group), cuts), strict=True):
            hand.extend(share.tolist())
    largest = [(-len(hand), number) for number, hand in enumerate(hands)]
    heapq.heapify(largest)
    for hand in hands:
        if not hand:  # the largest has two rows or more, since there are at least as many rows as parts
            size, number = largest[0]
            hand.append(hands[number].pop())
            heapq.heapreplace(largest, (size + 1, number))
    return [np.sort(np.array(hand, dtype=np.intp)) for hand in hands]


def _size_skewed(rows: int, n: int, alpha: float, random: np.random.Generator) -> list[Rows]:
    import numpy as np

    sizes = 1 + random.multinomial(rows - n, _proportions(n, alpha, random))
    return [np.sort(part) for part in np.split(random.permutation(rows), np.cumsum(sizes)[:-1])]


def _proportions(n: int, alpha: float, random: np.random.Generator) -> Any:
    import numpy as np

    shares = random.dirichlet(np.full(n, float(alpha)))
    if not np.isfinite(shares).all():
        raise ConfigurationError(f"alpha={alpha!r} is beyond what can be drawn with; 0.01 to 1000 is usual")
    return shares


def _check_partition(parts: list[Rows], rows: int) -> None:
    import numpy as np

    if not np.array_equal(np.sort(np.concatenate(parts)), np.arange(rows)) or not all(len(part) for part in parts):
        raise RuntimeError("the parts are not a partition of the rows: a fault of star_actors, please report it")
