"""The caller's own objects on their way into a node."""

from __future__ import annotations

import copy
import io
import pickle
import types
from typing import Any

from star_actors.errors import ConfigurationError

from .copies import pickled_copy
from .kinds import is_plain_array
from .uncopyable import NEVER_A_COPY_FAILURE, uncopyable

__all__ = ["copy_in"]

_BY_REFERENCE = (type, types.FunctionType, types.ModuleType)


def copy_in(value: Any, *, what: str) -> Any:
    """A node's own copy of the caller's data or arguments; `what` names it in the error, as in "data_splits[2]".

    Pickling is tried first, then pickling with classes, functions and modules by reference (so that lambdas and
    classes of a notebook pass), then `copy.deepcopy`.
    Raises ConfigurationError where none of them can copy it.
    """
    if isinstance(value, _BY_REFERENCE):
        return value
    if is_plain_array(value):
        return value.copy("A")
    for attempt in (_through_pickle, _with_references, copy.deepcopy):
        try:
            return attempt(value)
        except NEVER_A_COPY_FAILURE:
            raise
        except BaseException as error:  # whatever the value's own code raises
            if attempt is not _with_references:
                continue
            cause = error
    found = uncopyable(value, cause, _with_references)
    raise ConfigurationError(
        f"{what}{found.path} is a {found.type_name}, which cannot be copied ({type(found.cause).__name__}: "
        f"{found.cause}). Every node gets a copy of its own, as on FLAME. Give something that can be pickled, or pass "
        "copy_data=False to let the nodes work on the very object given."
    ) from found.cause


def _through_pickle(value: Any) -> Any:
    return pickled_copy(value)[0]


def _with_references(value: Any) -> Any:
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    pickler.dump(value)
    stream.seek(0)
    return _Unpickler(stream, pickler.references).load()


class _Pickler(pickle.Pickler):
    """Pickles classes, functions and modules as a number in `references`."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=4)
        self.references: list[Any] = []

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, _BY_REFERENCE):
            return None
        self.references.append(obj)
        return len(self.references) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, references: list[Any]) -> None:
        super().__init__(stream)
        self._references = references

    def persistent_load(self, pid: int) -> Any:
        return self._references[pid]
