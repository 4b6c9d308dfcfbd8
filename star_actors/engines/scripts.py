"""How the classes of a script or notebook get to other processes, which cannot import it.

The two classes, and whatever of the script they refer to, are pickled by value once. In the host these names stand in
`__main__`, so that later values are pickled by reference, in both directions, as they are within the script's own
process.
"""

from __future__ import annotations

import functools
import io
import linecache
import pickle
import sys
import types
import uuid
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigurationError
from ..isolation.pickled import dump
from ..isolation.uncopyable import NEVER_A_COPY_FAILURE, uncopyable
from ..nodes import StarAggregator, StarAnalyzer
from .by_value import by_value_pickler

__all__ = ["ORIGIN", "Script", "receive", "unpack"]

_MAIN = "__main__"

ORIGIN = uuid.uuid4().hex
"""What tells this process from every other one."""


class Script:
    """What the hosts of a run know of the caller's `__main__`. Raises ConfigurationError where the classes cannot
    travel."""

    def __init__(self, analyzer: type[StarAnalyzer], aggregator: type[StarAggregator]) -> None:
        self.known: dict[str, Any] = {}
        self.files: set[str] = set()
        found: dict[str, Any] = {}
        try:
            self._by_value(analyzer, found)
        except NEVER_A_COPY_FAILURE:
            raise
        except BaseException as error:  # whatever the class refers to may refuse in its own way
            raise ConfigurationError(
                f"analyzer={analyzer.__name__} cannot be sent to another process: {type(error).__name__}: {error}. It, "
                "or a global that its methods use, holds something that cannot be pickled: make that inside the "
                'constructor or the method, or run with engine="auto"'
            ) from error
        found |= self._names_of(aggregator)
        self.classes = self._by_value((analyzer, found), found)
        self.known = found
        self.sources = {name: lines for name in sorted(self.files) if (lines := linecache.getlines(name))}

    def luggage(self, value: Any, *, what: str) -> tuple[bytes, Sequence[memoryview]]:
        """The pickle of the caller's own object for a host, and the buffers out of it; `what` names it in the error.
        Classes and functions of the script, lambdas among them, may be in it. Raises ConfigurationError."""
        plain = self._plainly(value)
        if plain is not None:
            return plain
        try:
            views: list[pickle.PickleBuffer] = []
            data = self._by_value(value, None, views)
            buffers = [view.raw() for view in views]
            if any(buffer.readonly for buffer in buffers):  # protocol 5 would give them back read-only
                return self._by_value(value), ()
            return data, buffers
        except NEVER_A_COPY_FAILURE:
            raise
        except BaseException as error:  # whatever the value's own code raises
            found = uncopyable(value, error, self._by_value)
        raise ConfigurationError(
            f"{what}{found.path} is a {found.type_name}, which cannot be sent to another process "
            f"({type(found.cause).__name__}: {found.cause}). Give something that can be pickled, or run with "
            'engine="auto", which stays in this process'
        ) from found.cause

    def _plainly(self, value: Any) -> tuple[bytes, Sequence[memoryview]] | None:
        """What plain pickling gives; None where it fails or refers to the script, since pickling by value may not."""
        try:
            data, buffers = dump(value)
        except NEVER_A_COPY_FAILURE:
            raise
        except BaseException:  # whatever the value's own code raises; by value it is tried again, and told
            return None
        return None if self.is_named_in(data) else (data, buffers)

    def repaired(self, value: Any) -> bytes | None:
        """The pickle of a value for the hosts where it refers to a class of the script that they lack; else None."""
        stream = io.BytesIO()
        pickler = _ByValueWhereUnknown(stream, self)
        pickler.dump(value)
        return stream.getvalue() if pickler.sent else None

    @staticmethod
    def is_named_in(pickled: bytes) -> bool:
        """Whether a pickle may refer to the script."""
        return _MAIN.encode() in pickled

    def _names_of(self, aggregator: type[StarAggregator]) -> dict[str, Any]:
        """The names of the script that the aggregator uses; none where it cannot be pickled, which it need not be."""
        found: dict[str, Any] = {}
        try:
            self._by_value(aggregator, found)
        except NEVER_A_COPY_FAILURE:
            raise
        except BaseException:  # then a value of such a class brings its class along
            return {}
        return found

    def knows(self, obj: Any) -> bool:
        """Whether the hosts have this class or function of the script."""
        return self.known.get(obj.__qualname__) is obj

    def with_value(self, obj: Any) -> tuple[Any, ...]:
        """How a class or function that the hosts lack is pickled."""
        return receive, (obj.__qualname__, self._by_value(obj, {}))

    def _by_value(
        self, value: Any, found: dict[str, Any] | None = None, views: list[pickle.PickleBuffer] | None = None
    ) -> bytes:
        stream = io.BytesIO()
        _script_pickler()(stream, self, found, views).dump(value)
        return stream.getvalue()


def is_of_script(obj: Any) -> bool:
    """Whether `obj` is a class or function that pickle finds by its name in `__main__`."""
    if not isinstance(obj, type | types.FunctionType) or obj.__module__ != _MAIN:
        return False
    return getattr(sys.modules[_MAIN], obj.__qualname__, None) is obj


class _ByValueWhereUnknown(pickle.Pickler):
    """Pickles as plain pickling does, but for classes and functions of the script that the hosts lack."""

    def __init__(self, stream: io.BytesIO, script: Script) -> None:
        super().__init__(stream, protocol=4)
        self.sent = False
        self._script = script

    def reducer_override(self, obj: Any) -> Any:
        if not is_of_script(obj) or self._script.knows(obj):
            return NotImplemented
        self.sent = True
        return self._script.with_value(obj)


@functools.cache
def _script_pickler() -> Any:
    class ScriptPickler(by_value_pickler()):  # type: ignore[misc]
        """`found` collects the names of the script that go along; without it the hosts have those that are known."""

        def __init__(
            self, stream: io.BytesIO, script: Script, found: dict[str, Any] | None, views: list[Any] | None
        ) -> None:
            super().__init__(stream, protocol=5, buffer_callback=None if views is None else views.append)
            self._star = script, found

        def reducer_override(self, obj: Any) -> Any:
            script, found = self._star
            if is_of_script(obj):
                if found is not None:
                    found[obj.__qualname__] = obj
                else:
                    return NotImplemented if script.knows(obj) else script.with_value(obj)
            how = super().reducer_override(obj)
            if isinstance(obj, types.FunctionType) and how is not NotImplemented:
                script.files.add(obj.__code__.co_filename)
            return how

    return ScriptPickler


def unpack(classes: bytes, sources: dict[str, list[str]], origin: str) -> type[StarAnalyzer]:
    """In a host: the analyzer's class; the names of the script now stand in `__main__`, and errors find its lines."""
    analyzer, known = pickle.loads(classes)
    if origin != ORIGIN:  # else the host lives in the script's own process
        for name, lines in sources.items():
            linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
        vars(sys.modules[_MAIN]).update(known)
    return analyzer  # type: ignore[no-any-return]


def receive(name: str, pickled: bytes) -> Any:
    """In a host: a class or function of the script that came with a value."""
    main = sys.modules[_MAIN]
    if not hasattr(main, name):
        setattr(main, name, pickle.loads(pickled))
    return getattr(main, name)
