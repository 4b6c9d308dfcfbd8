"""The command line `star-actors`: new, run, check, report. A command's libraries are imported when it runs."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line on `sys.argv` and end the process with one of the codes in `star_actors.cli.exits`."""
    from .commands import cli

    cli(prog_name="star-actors")
