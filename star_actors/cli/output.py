"""Where a command's output goes: the result to standard output, what is told about it to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

if TYPE_CHECKING:
    from star_actors.display.noticed import Noticed
    from star_actors.report import Report

__all__ = ["STDOUT", "check_file", "kept_stdout", "note", "notes", "print_findings", "report_json"]

STDOUT = "-"
"""Stands for standard output where a path may be given."""


def check_file(option: str, path: str | None, *endings: str) -> None:
    """Raise ConfigurationError for what cannot be written to, as far as it can be known before a run."""
    if path is None:
        return
    from star_actors.errors import ConfigurationError
    from star_actors.release.delivery import check_paths

    if Path(path).suffix.lower() not in endings:
        raise ConfigurationError(f"{option} {path} is given, a path that ends in {' or '.join(endings)} is wanted")
    check_paths(path, name=option)


@contextmanager
def kept_stdout() -> Iterator[BinaryIO]:
    """Standard output, for this block alone: whatever is printed meanwhile, here or in a child, goes to stderr.

    It is not given back: a method that was left behind may still print, and what reads the output wants one document.
    """
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "wb") as stream:
        os.dup2(2, 1)
        yield stream


def note(label: str, text: str) -> None:
    """A line about the run, to standard error."""
    click.echo(click.style(f"{label:<10}", dim=True) + text, err=True)


def notes(report: Report) -> None:
    """How a run went and what it noticed, to standard error."""
    from star_actors.display.formats import count, duration, visible
    from star_actors.display.noticed import grouped
    from star_actors.display.summary import headline

    facts = [headline(report), duration(report.seconds), count(len(report.nodes), "node")]
    click.secho("  |  ".join(facts), err=True, dim=True)
    for warning in report.warnings:
        note("warning", visible(warning))
    groups, more = grouped(report.findings)
    for found in groups:
        at = f" ({found.where})" if found.where else ""
        note("finding", visible(f"{found.kind}{at}: {found.message}; {found.advice}"))
    if more:
        note("", f"and {more} more findings")


def print_findings(name: str, report: Report) -> None:
    """What a run noticed, to standard output: a table, one line for each finding where that is no terminal."""
    from star_actors.display.formats import count, visible
    from star_actors.display.noticed import grouped

    groups, more = grouped(report.findings)
    ran = f"{count(len(report.rounds), 'round')} on {count(len(report.nodes), 'node')}"
    found = count(len(groups) + more, "finding") if groups else "nothing found"
    click.secho(f"{name}: {found} in {ran}", fg="red" if groups else "green", bold=True)
    if groups:
        click.echo()
        _print_table(groups)
    if more:
        click.echo(f"and {more} more")
    for warning in report.warnings:
        click.echo(f"\nwarning   {visible(warning)}")


def _print_table(groups: list[Noticed]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from star_actors.display.formats import visible

    terminal = sys.stdout.isatty()
    # A terminal is too narrow for four columns of text: there what to do stands below what was found.
    titles = ("finding", "where", "what") if terminal else ("finding", "where", "what", "what to do")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1 if terminal else 0, 0))
    for title in titles:
        table.add_column(
            title, no_wrap=not terminal, overflow="fold", ratio=1 if terminal and title == "what" else None
        )
    for found in groups:
        where, message, advice = (Text(visible(text)) for text in (found.where, found.message, found.advice))
        if terminal:
            where = Text(where.plain.replace(", ", "\n"))
            advice.stylize("dim")
            table.add_row(Text(found.kind, "red"), where, Text("\n").join([message, advice]))
        else:
            table.add_row(Text(found.kind), where, message, advice)
    console = Console(width=None if terminal else 100_000, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def report_json(report: Report, *, private: bool) -> bytes:
    """The report as JSON; without what nodes logged where the run was to be private, however early it ended."""
    import msgspec

    from star_actors.display.log_rows import WITHHELD

    if private:
        logs = [msgspec.structs.replace(log, message=WITHHELD) for log in report.logs]
        report = msgspec.structs.replace(report, logs=logs)
    return report.to_json()
