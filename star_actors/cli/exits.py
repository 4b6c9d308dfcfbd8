"""How a command ends: the exit codes that scripts can use, and what is shown of an error."""

from __future__ import annotations

import os
import traceback
from enum import IntEnum
from typing import Any

import click

__all__ = ["Commands", "Exit", "traceback_option"]

_WANTED = "star_actors.traceback"


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAILED = 1
    """The analysis failed, or `check` found something."""
    USAGE = 2
    """A wrong call: options, files, folders, arguments of the analysis. Nothing ran."""
    NOT_CONVERGED = 3
    """`--max-iterations` or `--timeout` ended the run."""
    PRIVACY = 4
    """The result could not be noised, so nothing was released."""
    DELIVERY = 5
    """There is a result, and it could not be encoded or written."""
    STOPPED = 130
    """Ctrl-C."""


class Commands(click.Group):
    """A group of commands whose errors end in a text and a code, without a traceback unless one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use, not of the alphabet

    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            ctx.exit(Exit.STOPPED)
        except Exception as error:
            code = _code_of(error)
            if code is None:
                raise
            _show(ctx, error)
            ctx.exit(code)


def traceback_option(command: Any) -> Any:
    """Give a command the option `--traceback`."""

    def remember(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
        ctx.meta[_WANTED] = wanted

    return click.option(
        "--traceback",
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Show the whole traceback of an error.",
    )(command)


def _code_of(error: Exception) -> Exit | None:
    """The exit code for an error that users can do something about; None for a fault of this package."""
    from star_actors import errors

    match error:
        case errors.ConfigurationError():
            return Exit.USAGE
        case errors.NotConvergedError():
            return Exit.NOT_CONVERGED
        case errors.PrivacyError():
            return Exit.PRIVACY
        case errors.EncodingError() | errors.DeliveryError():
            return Exit.DELIVERY
        case errors.StarError():
            return Exit.FAILED
        case _:
            return None


def _show(ctx: click.Context, error: Exception) -> None:
    if ctx.meta.get(_WANTED):
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
        return
    click.secho("Error: ", err=True, fg="red", bold=True, nl=False)
    click.echo(str(error), err=True)
