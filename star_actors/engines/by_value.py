"""Pickling by value, as cloudpickle does it: what is defined in a script goes along, code and all."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

from ..isolation.arrays import reduced

__all__ = ["by_value_pickler"]


@functools.cache
def by_value_pickler() -> Any:
    """A class over cloudpickle's, made on first use: a host has no need of cloudpickle unless it pickles by value."""
    import cloudpickle  # type: ignore[import-untyped, unused-ignore]

    class ByValuePickler(cloudpickle.CloudPickler):  # type: ignore[misc, name-defined, unused-ignore]
        """Keeps arrays writable, and the file that code stands in, which cloudpickle 3.1.3 and later leave out: errors
        show the user's own lines by it."""

        def reducer_override(self, obj: Any) -> Any:
            numpy = sys.modules.get("numpy")
            if numpy is not None and type(obj) is numpy.ndarray:
                return reduced(obj)
            if isinstance(obj, types.CodeType):
                how: Any = self.dispatch_table[types.CodeType]
                _, parts = how(obj)
                return _code, (obj.co_filename, *parts)
            return super().reducer_override(obj)

    return ByValuePickler


def _code(filename: str, *parts: Any) -> types.CodeType:
    return types.CodeType(*parts).replace(co_filename=filename)
