"""Encoding: a released result becomes text, bytes or a pickle. One small class per encoding."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Protocol, TypeVar

from star_actors.errors import ConfigurationError, EncodingError, NodeStopped

__all__ = [
    "ENCODERS",
    "BytesEncoder",
    "Encoder",
    "Kind",
    "PickleEncoder",
    "TextEncoder",
    "check_output_type",
    "text_of",
    "type_name",
]

Kind = Literal["str", "bytes", "pickle"]

_T = TypeVar("_T")
_DEEPEST = 50


class Encoder(Protocol):
    """Turns one released result into what is delivered."""

    def encode(self, result: Any, name: str) -> str | bytes:
        """The encoded `result`; `name` is what an error calls it, as in `result[1]`. Raises EncodingError."""
        ...


class TextEncoder:
    """`str(result)`, checked to be text that UTF-8 can carry."""

    def encode(self, result: Any, name: str) -> str:
        text = text_of(result, name)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise EncodingError(
                f"{name}, of type {type_name(result)}, gives text that is not valid Unicode (a lone surrogate at "
                f"position {error.start}), valid text is wanted for output_type='str': decode the bytes it came from "
                "as UTF-8, or choose output_type='pickle'"
            ) from error
        return text


class BytesEncoder:
    """The bytes themselves, copied out of whatever held them."""

    def encode(self, result: Any, name: str) -> bytes:
        # bytes(result) would also take numbers and arrays, and turn 3 into three zero bytes.
        if not issubclass(type(result), (bytes, bytearray, memoryview)):
            raise EncodingError(
                f"{name} is of type {type_name(result)}, bytes, bytearray or memoryview is wanted for "
                "output_type='bytes': return bytes from aggregation_method (text.encode(), array.tobytes()), or choose "
                "output_type='str' or 'pickle'"
            )
        return _user_code(
            lambda: bytes(result), lambda what: f"{name}, of type {type_name(result)}, could not be copied: {what}"
        )


class PickleEncoder:
    """`pickle.dumps(result)`."""

    def encode(self, result: Any, name: str) -> bytes:
        def explain(what: str) -> str:
            path, part = _unpicklable_part(result, name)
            culprit = "" if part is result else f" because of {path}, of type {type_name(part)}"
            return (
                f"{name}, of type {type_name(result)}, cannot be pickled{culprit} ({what}), a picklable object is "
                "wanted for output_type='pickle': return plain data or an object of a class that stands at the top "
                "level of its module, without open files, locks, lambdas or generators in it"
            )

        return _user_code(lambda: pickle.dumps(result), explain)


ENCODERS: Mapping[Kind, Encoder] = {"str": TextEncoder(), "bytes": BytesEncoder(), "pickle": PickleEncoder()}


def text_of(result: Any, name: str) -> str:
    """`str(result)`, exactly a str; raises EncodingError where the result's own code raises."""

    def explain(what: str) -> str:
        return (
            f"{name}, of type {type_name(result)}, cannot be turned into text: its __str__ raised {what}; a result "
            "whose str() works is wanted: mend its __str__, or return plain data"
        )

    # A __str__ may return a subclass of str with methods of its own; what leaves here has none.
    return _user_code(lambda: str.__str__(str(result)), explain)


def type_name(value: object) -> str:
    """The name of the type of `value`, with its module unless it is a builtin."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def check_output_type(output_type: object, multiple_results: bool) -> None:
    """Raise ConfigurationError unless `output_type` names an encoding, or, with several results, a list of them."""
    choices = "'str' or 'bytes' or 'pickle'"
    if isinstance(output_type, (list, tuple)):
        if not multiple_results:
            raise ConfigurationError(
                f"output_type={output_type!r} is given, one of {choices} is wanted: a list of them goes with "
                "multiple_results=True"
            )
        if not output_type:
            raise ConfigurationError(
                f"output_type={output_type!r} is given, one of {choices} for each result is wanted"
            )
        for i, kind in enumerate(output_type):
            if not _is_kind(kind):
                raise ConfigurationError(f"output_type[{i}]={kind!r} is given, {choices} is wanted")
    elif not _is_kind(output_type):
        raise ConfigurationError(f"output_type={output_type!r} is given, {choices} is wanted")


def _is_kind(value: object) -> bool:
    return isinstance(value, str) and value in ENCODERS


def _user_code(call: Callable[[], _T], explain: Callable[[str], str]) -> _T:
    """What `call` returns; an EncodingError where it raises, even SystemExit: that must not end the run unnamed."""
    try:
        return call()
    except (KeyboardInterrupt, NodeStopped):
        raise
    except BaseException as error:
        raise EncodingError(explain("".join(traceback.format_exception_only(error)).strip())) from error


class _Nowhere:
    """A file that forgets, so that a trial pickle needs no memory."""

    def write(self, data: Any) -> int:
        return len(data)


def _pickles(value: object) -> bool:
    try:
        pickle.Pickler(_Nowhere()).dump(value)
    except (KeyboardInterrupt, NodeStopped):
        raise
    except BaseException:
        return False
    return True


def _unpicklable_part(value: Any, path: str) -> tuple[str, Any]:
    """The innermost part of `value` that cannot be pickled, and its path: the parts are tried level by level."""
    above = {id(value)}
    for _ in range(_DEEPEST):
        for step, part in _parts(value):
            if id(part) not in above and not _pickles(part):
                value, path = part, path + step
                above.add(id(part))
                break
        else:
            break
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if issubclass(kind, dict):
        for key, part in dict.items(value):
            yield f"[{key!r}]" if type(key) in (str, int) else f"[key of type {type_name(key)}]", part
            yield f" key of type {type_name(key)}", key
    elif issubclass(kind, (list, tuple)):
        for i, part in enumerate(value):
            yield f"[{i}]", part
    elif issubclass(kind, (set, frozenset)):
        for part in value:
            yield f" element of type {type_name(part)}", part
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is dict:
        for name, part in attributes.items():
            yield f".{name}", part
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                yield f".{name}", getattr(value, name)
