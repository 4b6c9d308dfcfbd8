"""What a run that protects exact values keeps out of errors and logs: texts, frames and tasks may hold them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from .isolation import Uncopyable

__all__ = ["cut_off", "hush", "without_text"]

_WITHHELD = "(text withheld: privacy is on, and it may hold an exact value; Privacy(keep_exact=True) shows it)"


def without_text(error: BaseException) -> BaseException:
    """A stand-in for `error`: of its type where that can be made, with its traceback, without its text or chain."""
    cls = type(error)
    if isinstance(error, Uncopyable):
        return Uncopyable(error.path, error.type_name, without_text(error.cause)).with_traceback(error.__traceback__)
    try:
        stand_in = cls.__new__(cls)
        stand_in.args = (_WITHHELD,)
        if str(stand_in) not in (_WITHHELD, repr(_WITHHELD)):
            raise TypeError
    except Exception:  # a class that cannot be made or shown without its own arguments
        stand_in = RuntimeError(f"{cls.__name__} {_WITHHELD}")
    return stand_in.with_traceback(error.__traceback__)


def cut_off(error: BaseException) -> None:
    """Leave of an error and its causes what their own texts say: a debugger's view of frames shows every value."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = cause.__context__ = None
        cause = cause.__cause__


def hush(loop: asyncio.AbstractEventLoop) -> None:
    """Have an event loop show neither tasks, as its debug mode does, nor texts of exceptions that nobody took."""
    loop.set_debug(False)
    loop.set_exception_handler(_say_the_type)


def _say_the_type(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    what = "" if error is None else f": {type(error).__name__} {_WITHHELD}"
    logging.getLogger("asyncio").error("%s%s", context["message"], what)
