"""How a split is taken apart into records, and how the splits of all sites are put together at one.

Lists have elements, arrays rows along their first axis, tables rows; tuples and dicts of arrays or tables have rows in
step. FLAME's shapes have the rows of their CSV files (`flame_records`) and the patients of their FHIR bundles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from star_actors.errors import ConfigurationError

__all__ = ["Pool", "Records", "pool_splits", "take_apart"]

Pool = Callable[[list[Any]], Any]


class Records(Protocol):
    """A split taken apart. Each method gives a new split; none changes the one that was taken apart."""

    def __len__(self) -> int: ...

    def without(self, index: int) -> Any:
        """The split with one record left out."""
        ...

    def replaced(self, index: int, candidate: Any) -> Any:
        """The split with another record in the place of one."""
        ...

    def pooled(self, others: Sequence[Any]) -> Any:
        """The records of this split, and of others taken apart in the same way, as one split."""
        ...


def take_apart(split: Any, name: str) -> Records:
    """The records of a split; `name` names it in errors. Raises ConfigurationError where it has none to speak of."""
    try:
        return _records(split)
    except ValueError as error:
        raise ConfigurationError(f"{name} cannot be taken apart into records: {error}") from None


def pool_splits(splits: Sequence[Any], pool: Pool | None = None) -> Any:
    """All records of all splits as one split; `pool(list of splits)` does it where it is given.

    A split that is None has no records. Raises ConfigurationError where there is no one way to put them together.
    """
    if pool is not None:
        if not callable(pool):
            raise ConfigurationError(f"pool={pool!r} is given, a function from the list of splits to one is wanted")
        return pool(list(splits))
    given = [(i, split) for i, split in enumerate(splits) if split is not None]
    if not given:
        return None
    try:
        parts = [_records(split) for _, split in given]
        kinds = {type(part): i for (i, _), part in reversed(list(zip(given, parts, strict=True)))}
        if len(kinds) > 1:
            said = ", ".join(f"data_splits[{i}] of type {type(splits[i]).__name__}" for i in sorted(kinds.values()))
            raise ValueError(f"they are of different kinds ({said})")
        return parts[0].pooled(parts[1:])
    except ValueError as error:
        raise ConfigurationError(
            f"the splits cannot be pooled: {error}; pool=a function from the list of splits to one split is wanted"
        ) from None


def _records(split: Any) -> Records:
    from .flame_records import flame_records

    found = flame_records(split)
    if found is not None:
        return found
    library = type(split).__module__.partition(".")[0]
    if _is_array(split):
        if split.ndim == 0:
            raise ValueError("it is an array without an axis")
        return _Array(split)
    if library in ("pandas", "polars") and type(split).__name__ in ("DataFrame", "Series"):
        return _Frame(split) if library == "pandas" else _PolarsFrame(split)
    if isinstance(split, tuple | dict) and _in_step(split):
        return _InStep(split)
    if type(split) in (list, tuple):
        return _Elements(split)
    if split is None:
        return _Elements([])
    raise ValueError(
        f"it is of type {type(split).__name__}; a list, an array, a DataFrame, a tuple or dict of these, or FLAME's "
        "[{name: bytes}] with CSV files or [{query: bundle}] is wanted"
    )


class _Elements:
    """A list, or a tuple of single things."""

    def __init__(self, split: Any) -> None:
        self._split = split

    def __len__(self) -> int:
        return len(self._split)

    def without(self, index: int) -> Any:
        return self._split[:index] + self._split[index + 1 :]

    def replaced(self, index: int, candidate: Any) -> Any:
        return self._split[:index] + type(self._split)([candidate]) + self._split[index + 1 :]

    def pooled(self, others: Sequence[_Elements]) -> Any:
        elements = [element for part in (self, *others) for element in part._split]
        return elements if isinstance(self._split, list) else tuple(elements)


class _Array:
    """A NumPy array, along its first axis."""

    def __init__(self, split: Any) -> None:
        self._split = split

    def __len__(self) -> int:
        return len(self._split)

    def without(self, index: int) -> Any:
        import numpy as np

        return np.delete(self._split, index, axis=0)

    def replaced(self, index: int, candidate: Any) -> Any:
        import numpy as np

        row = np.asarray(candidate)
        if row.shape != self._split.shape[1:]:
            raise ConfigurationError(
                f"a candidate of shape {row.shape} is given, one of shape {self._split.shape[1:]}, as the records are, "
                "is wanted"
            )
        changed = self._split.astype(np.result_type(self._split, row))
        changed[index] = row
        return changed

    def pooled(self, others: Sequence[_Array]) -> Any:
        import numpy as np

        arrays = [self._split, *(other._split for other in others)]
        shapes = {array.shape[1:] for array in arrays}
        if len(shapes) > 1:
            raise ValueError(f"the rows of the arrays are of different shapes: {sorted(map(str, shapes))}")
        return np.concatenate(arrays)


class _Frame:
    """A pandas DataFrame or Series; an index that only counts goes on counting, any other stays with its rows."""

    def __init__(self, split: Any) -> None:
        import pandas as pd

        self._split = split
        self._counts = isinstance(split.index, pd.RangeIndex)

    def __len__(self) -> int:
        return len(self._split)

    def without(self, index: int) -> Any:
        return self._joined([self._split.iloc[:index], self._split.iloc[index + 1 :]])

    def replaced(self, index: int, candidate: Any) -> Any:
        import pandas as pd

        label = self._split.index[index : index + 1]
        if isinstance(self._split, pd.Series):
            row: Any = pd.Series([candidate], index=label, name=self._split.name)
        else:
            columns = list(self._split.columns)
            cells: Any = [_cells(candidate, columns)]
            row = pd.DataFrame(cells, columns=self._split.columns, index=label)
        return self._joined(
            [part for part in (self._split.iloc[:index], row, self._split.iloc[index + 1 :]) if len(part)]
        )

    def pooled(self, others: Sequence[_Frame]) -> Any:
        frames = [self._split, *(other._split for other in others)]
        _check_columns([list(getattr(frame, "columns", [frame.shape[1:]])) for frame in frames])
        return self._joined([frame for frame in frames if len(frame)] or frames[:1])

    def _joined(self, frames: list[Any]) -> Any:
        import pandas as pd

        return pd.concat(frames, ignore_index=self._counts)


class _PolarsFrame:
    """A Polars DataFrame or Series."""

    def __init__(self, split: Any) -> None:
        self._split = split

    def __len__(self) -> int:
        return len(self._split)

    def without(self, index: int) -> Any:
        import polars as pl

        return pl.concat([self._split[:index], self._split[index + 1 :]])

    def replaced(self, index: int, candidate: Any) -> Any:
        import polars as pl

        split = self._split
        if isinstance(split, pl.Series):
            row: Any = pl.Series(split.name, [candidate], dtype=split.dtype)
        else:
            row = pl.DataFrame([_cells(candidate, split.columns)], schema=split.schema, orient="row")
        return pl.concat([split[:index], row, split[index + 1 :]])

    def pooled(self, others: Sequence[_PolarsFrame]) -> Any:
        import polars as pl

        frames = [self._split, *(other._split for other in others)]
        columns = [list(getattr(frame, "columns", [])) for frame in frames]
        _check_columns(columns)
        if columns[0]:
            frames = [frame.select(columns[0]) for frame in frames]
        return pl.concat(frames, how="vertical_relaxed") if columns[0] else pl.concat(frames)


class _InStep:
    """A tuple or dict of arrays, tables or lists whose rows belong together."""

    def __init__(self, split: Any) -> None:
        self._split = split
        self._keys = list(split) if isinstance(split, dict) else list(range(len(split)))
        self._parts = [_records(split[key]) for key in self._keys]

    def __len__(self) -> int:
        return len(self._parts[0])

    def without(self, index: int) -> Any:
        return self._built([part.without(index) for part in self._parts])

    def replaced(self, index: int, candidate: Any) -> Any:
        return self._built(
            [part.replaced(index, cell) for part, cell in zip(self._parts, _cells(candidate, self._keys), strict=True)]
        )

    def pooled(self, others: Sequence[_InStep]) -> Any:
        for other in others:
            if sorted(map(str, other._keys)) != sorted(map(str, self._keys)):
                raise ValueError(f"their parts differ: {self._keys} and {other._keys}")
        columns = []
        for key, part in zip(self._keys, self._parts, strict=True):
            same = [other._parts[other._keys.index(key)] for other in others]
            if any(type(one) is not type(part) for one in same):
                raise ValueError(f"part {key!r} is of different kinds")
            columns.append(part.pooled(same))
        return self._built(columns)

    def _built(self, parts: list[Any]) -> Any:
        if isinstance(self._split, dict):
            return dict(zip(self._keys, parts, strict=True))
        return tuple(parts)


def _in_step(split: Any) -> bool:
    """Whether it is a tuple or dict of lists, arrays or tables; raises ValueError where those are not of one length."""
    parts = list(split.values()) if type(split) is dict else list(split) if type(split) is tuple else []
    if not parts or not all(type(part) is list or getattr(part, "shape", None) for part in parts):
        return False
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise ValueError(f"its parts are not of one length: {lengths}")
    return True


def _cells(candidate: Any, columns: list[Any]) -> list[Any]:
    """The cells of a candidate in the order of the columns."""
    if isinstance(candidate, Mapping) and set(candidate) == set(columns):
        return [candidate[column] for column in columns]
    if isinstance(candidate, list | tuple) and len(candidate) == len(columns):
        return list(candidate)
    raise ConfigurationError(
        f"a candidate of type {type(candidate).__name__} is given, a dict with the columns {columns!r}, or a list or "
        "tuple in their order, is wanted"
    )


def _check_columns(columns: list[list[Any]]) -> None:
    for other in columns[1:]:
        if sorted(map(str, other)) != sorted(map(str, columns[0])):
            raise ValueError(f"their columns differ: {columns[0]} and {other}")


def _is_array(split: Any) -> bool:
    import sys

    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(split, numpy.ndarray)
