"""Every error that a run can end with, in one tree.

StarError
  ConfigurationError      the call itself is wrong (also a ValueError); raised before any node starts
  NodeError               a node's own code failed; `__cause__` is the user's exception
  NotConvergedError       `max_iterations` or `timeout` ended an iterative run
  PrivacyError            a result could not be noised, or the budget is spent; nothing exact was released
  EncodingError           the result does not fit `output_type`
  DeliveryError           the encoded result could not be written
  FindingsError           `Checks(strict=True)`, and something was found; nothing was released

Each has `report`: what the run had done by then, or None where no run had begun. All of them pickle.
"""

from __future__ import annotations

import linecache
import pickle
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .report import Report

__all__ = [
    "ConfigurationError",
    "DeliveryError",
    "EncodingError",
    "FindingsError",
    "NodeError",
    "NodeStopped",
    "NotConvergedError",
    "PrivacyError",
    "StarError",
]

_OURS = str(Path(__file__).parent)
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class StarError(Exception):
    """Base of every error of this package.

    `report` holds what the run had done by then; None where no run had begun.
    """

    report: Report | None = None

    @property
    def summary(self) -> str:
        """What happened, in one line that quotes no exception of the user's, which may hold data."""
        return f"{type(self).__name__}: {str(self).partition(chr(10))[0]}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions lose their cause when pickled; the cause is half of what a NodeError tells.
        return _rebuild, (type(self), self.args, dict(self.__dict__), _picklable(self.__cause__))


class ConfigurationError(StarError, ValueError):
    """An argument is wrong; no node has started. The text says what was given, what is wanted, what to do."""


class WrongTypeError(ConfigurationError, TypeError):
    """A ConfigurationError that is a TypeError too: an instance was given where a class is wanted."""


class NodeError(StarError):
    """A node's own code failed and ended the run; `__cause__` is the exception that it raised.

    `node_id`, `role` and `round` say where; `round` is None in a constructor.
    """

    def __init__(self, message: str, *, node_id: str = "", role: str = "", round: int | None = None) -> None:
        super().__init__(message)
        self.node_id = node_id
        self.role = role
        self.round = round
        self._summary = message.partition("\n")[0]

    @property
    def summary(self) -> str:
        return self._summary

    @classmethod
    def of(cls, cause: BaseException, *, node_id: str, role: str, round: int | None, doing: str) -> NodeError:
        """The error for `cause`, raised at a node while `doing` (a method's name); chained to it.

        Its text ends in one block: node, role, round, the user's own file and line, the exception.
        """
        where = "in the constructor" if round is None else f"in round {round}"
        what = _describe(cause)
        failed = f"{node_id} ({role}) failed {where}, in {doing}"
        summary = f"{failed}: {type(cause).__name__}"
        lines = [f"{failed}: {what}", ""]
        lines += [f"  node   {node_id}", f"  role   {role}"]
        lines.append(f"  round  {'none yet (constructor)' if round is None else round}")
        frame = _user_frame(cause)
        if frame is not None:
            at = f"{frame.filename}:{frame.lineno}, in {frame.name}"
            summary += f" at {at}"
            lines.append(f"  at     {at}")
            source = linecache.getline(frame.filename, frame.lineno or 0).strip()
            if source:
                lines.append(f"         {source}")
        lines.append(f"  error  {what}")
        error = cls("\n".join(lines), node_id=node_id, role=role, round=round)
        error._summary = summary
        error.__cause__ = cause
        return error


class NotConvergedError(StarError):
    """`max_iterations` or `timeout` was reached; the report holds every finished round and the last aggregate."""


class PrivacyError(StarError):
    """A result could not be noised, or the budget does not cover it. Nothing exact was released."""

    _tells_nothing = False
    """Set by the privacy stages: the text holds no exact value. One that user code raises may hold any."""


class EncodingError(StarError):
    """The result does not fit its `output_type`; the result itself is on the report."""


class DeliveryError(StarError):
    """The encoded result could not be written; the result itself is on the report."""


class FindingsError(StarError):
    """`Checks(strict=True)` was asked for, and the run found something; `report.findings` holds all of it.

    Raised before the result is released, so that nothing is delivered.
    """


class NodeStopped(BaseException):
    """Thrown into user code whose run is over. Not an error of the node, and not to be caught by one."""


def own_frames_only(error: StarError) -> None:
    """Leave out of the tracebacks how this package came to call the user's code: they begin where that begins."""
    cause: BaseException | None = error
    while cause is not None:
        frames = cause.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS):
            frames = frames.tb_next
        cause.__traceback__ = frames
        cause = cause.__cause__


def _rebuild(
    cls: type[StarError], args: tuple[Any, ...], state: dict[str, Any], cause: BaseException | None
) -> StarError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    error.__cause__ = cause
    return error


def _picklable(cause: BaseException | None) -> BaseException | None:
    if cause is None:
        return None
    try:
        pickle.loads(pickle.dumps(cause))
    except Exception:  # whatever a user's exception does when copied, its text stands in for it
        return RuntimeError(_describe(cause))
    return cause


def _describe(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def _user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The deepest frame in the user's own files; failing that, the deepest that is not ours."""
    frames = [f for f in traceback.extract_tb(error.__traceback__, limit=None) if not f.filename.startswith(_OURS)]
    own = [f for f in frames if not f.filename.startswith((*_INSTALLED, "<frozen"))]
    found = own or frames
    return found[-1] if found else None
