"""The options that say what to run, shared by `run` and `check`, and what they come to for a tester."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["ENGINE_NAMES", "analysis_options", "tester_arguments"]

Command = TypeVar("Command", bound=Callable[..., Any])

# Spelled out, so that `--help` need not import the options of a run; a test compares them.
ENGINE_NAMES = ("auto", "serial", "threads", "processes")
_SUGGESTED = 3


def analysis_options(command: Command) -> Command:
    """Give a command the argument FILE and the options of a run."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: list[Callable[[Any], Any]] = [
    click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    click.option(
        "--data",
        multiple=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="A folder with one node's data; repeat it, once for each node.",
    ),
    click.option(
        "--data-type",
        type=click.Choice(["s3", "fhir"]),
        default="s3",
        show_default=True,
        help="s3: every file as bytes. fhir: every .json file as a bundle.",
    ),
    click.option("--iterative", is_flag=True, help="Go on until has_converged; without it, one round."),
    click.option(
        "--max-iterations",
        type=click.IntRange(min=1),
        metavar="N",
        help="Most rounds of --iterative.  [default: 10000]",
    ),
    click.option(
        "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Most seconds for the whole run."
    ),
    click.option("--epsilon", type=float, metavar="E", help="Add noise to the result: its privacy budget."),
    click.option("--sensitivity", type=float, metavar="S", help="How far one person can move the result."),
    click.option("--seed", type=int, metavar="N", help="Seed random and NumPy on every node."),
    click.option(
        "--engine",
        type=click.Choice(ENGINE_NAMES),
        default="auto",
        show_default=True,
        help="Where the nodes' code runs.",
    ),
    click.option("--analyzer", metavar="NAME", help="The analyzer, where the file has several."),
    click.option("--aggregator", metavar="NAME", help="The aggregator, where the file has several."),
    click.option(
        "--analyzer-kwarg",
        "analyzer_kwargs",
        multiple=True,
        metavar="KEY=VALUE",
        help="An argument of the analyzer's constructor; repeatable.",
    ),
    click.option(
        "--aggregator-kwarg",
        "aggregator_kwargs",
        multiple=True,
        metavar="KEY=VALUE",
        help="An argument of the aggregator's constructor; repeatable.",
    ),
]


def tester_arguments(
    *,
    file: Path,
    data: tuple[Path, ...],
    data_type: Any,
    iterative: bool,
    max_iterations: int | None,
    timeout: float | None,
    epsilon: float | None,
    sensitivity: float | None,
    seed: int | None,
    engine: str,
    analyzer: str | None,
    aggregator: str | None,
    analyzer_kwargs: tuple[str, ...],
    aggregator_kwargs: tuple[str, ...],
) -> dict[str, Any]:
    """The options as arguments of a tester: the classes loaded, the folders read.

    Raises click.UsageError and ConfigurationError for what is wrong, FileError where the file's own code fails.
    """
    if not data:
        raise click.UsageError(f"no --data is given, a folder for each node is wanted{_suggestion(file)}")
    if max_iterations is not None and not iterative:
        raise click.UsageError("--max-iterations goes with --iterative; without it there is one round")
    arguments: dict[str, Any] = {
        "data_type": data_type,
        "simple_analysis": not iterative,
        "timeout": timeout,
        "epsilon": epsilon,
        "sensitivity": sensitivity,
        "seed": seed,
        "engine": engine,
        "analyzer_kwargs": _kwargs("--analyzer-kwarg", analyzer_kwargs),
        "aggregator_kwargs": _kwargs("--aggregator-kwarg", aggregator_kwargs),
    }
    if max_iterations is not None:
        arguments["max_iterations"] = max_iterations

    from star_actors.data import from_folders

    from .analysis_file import load_analysis

    arguments["data_splits"] = from_folders(*data, data_type=data_type)
    found = load_analysis(file, analyzer, aggregator)
    return {**arguments, "analyzer": found.analyzer, "aggregator": found.aggregator}


def _suggestion(file: Path) -> str:
    """The folders that look like data, as options."""
    for parent in (file.parent / "data", file.parent):
        folders = sorted(folder for folder in parent.glob("[!._]*") if folder.is_dir()) if parent.is_dir() else []
        if len(folders) > 1:
            options = " ".join(f"--data {folder}" for folder in folders[:_SUGGESTED])
            return f": {options}" + (" ..." if len(folders) > _SUGGESTED else "")
    return ": --data node1 --data node2"


def _kwargs(option: str, given: Iterable[str]) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise click.UsageError(f"{option} {text} is given, KEY=VALUE is wanted, such as rate=0.1")
        if name in kwargs:
            raise click.UsageError(f"{option} gives {name} twice; give it once")
        kwargs[name] = _value(value)
    return kwargs


def _value(text: str) -> Any:
    """A Python literal, or JSON, or else the text itself."""
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text
