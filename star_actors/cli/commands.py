"""The commands themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from star_actors._version import __version__

from .exits import Commands, Exit, traceback_option
from .options import analysis_options, tester_arguments
from .output import STDOUT, check_file, kept_stdout, note, notes, print_findings, report_json

if TYPE_CHECKING:
    from star_actors.report import Report

__all__ = ["cli"]

_NO_LOGS = 1 << 30  # above every level

_EXAMPLES = """\b
Examples:
  star-actors new my_analysis
  star-actors run my_analysis.py --data data/node1 --data data/node2
  star-actors check my_analysis.py --data data/node1 --data data/node2
  star-actors report run.json

\b
Exit codes:
  0  it worked                    3  not converged
  1  the analysis failed, or      4  privacy: nothing was released
     check found something        5  the result could not be written
  2  wrong call, nothing ran      130  Ctrl-C

\b
Completion, for bash (zsh and fish likewise); put it into ~/.bashrc:
  eval "$(_STAR_ACTORS_COMPLETE=bash_source star-actors)"
"""


@click.group(
    cls=Commands, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="star-actors")
def cli() -> None:
    """Test a federated STAR analysis on this machine, before it touches patients' data."""


@cli.command(
    epilog="""\b
Examples:
  star-actors new my_analysis
  star-actors new studies/blood_pressure
"""
)
@click.argument("path", type=click.Path(path_type=Path))
@traceback_option
def new(path: Path) -> None:
    """Start an analysis in a new folder PATH.

    It holds a commented analysis, a folder of small made-up data for each of two sites, and a test. All of it runs as
    it is.
    """
    from .project import make_project

    project = make_project(path)
    click.echo(f"Made {path}:\n")
    for name, what in project.contents.items():
        click.echo(f"  {name:<{project.width}}  {what}")
    click.echo("\nNext:\n")
    for command in project.commands:
        click.echo(f"  {command}")


@cli.command(
    epilog="""\b
Examples:
  star-actors run my_analysis.py --data data/node1 --data data/node2
  star-actors run my_analysis.py --data node1 --data node2 --iterative --max-iterations 50
  star-actors run my_analysis.py --data node1 --data node2 --html run.html
  star-actors run my_analysis.py --data node1 --data node2 --json | jq .stop_reason

What is logged and the result go to standard output, the result last; everything else goes to standard error.
"""
)
@analysis_options
@click.option(
    "--output-type",
    type=click.Choice(["str", "bytes", "pickle"]),
    default="str",
    show_default=True,
    help="How the result is encoded.",
)
@click.option("--out", type=click.Path(dir_okay=False), help="Write the result to this file instead of printing it.")
@click.option("--html", type=click.Path(dir_okay=False), help="Save the report as a page, and as JSON beside it.")
@click.option(
    "--json",
    "json_to",
    is_flag=False,
    flag_value=STDOUT,
    metavar="[PATH]",
    help="Save the report as JSON; without PATH, print it instead of logs and result.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print the result only.")
@traceback_option
def run(output_type: Any, out: str | None, html: str | None, json_to: str | None, quiet: bool, **options: Any) -> None:
    """Run the analysis in FILE, a node for each --data folder.

    FILE defines one StarAnalyzer and one StarAggregator. What stands under if __name__ == "__main__" does not run.
    """
    targets = _targets(html, json_to, out)
    private = options["epsilon"] is not None or options["sensitivity"] is not None

    def start() -> Report:
        arguments = {**tester_arguments(**options), "output_type": output_type, "result_filepath": out}
        if json_to == STDOUT:
            from star_actors.studies.quiet import run_quietly

            return run_quietly(**arguments)
        from star_actors import StarModelTester

        shown: dict[str, Any] = {"stream_log_level": _NO_LOGS, "progress": False} if quiet else {}
        return StarModelTester(**arguments, **shown).report

    with kept_stdout() if json_to == STDOUT else nullcontext() as stdout:
        report, error = _attempt(start)
        if report is not None:
            if not quiet:
                notes(report)
            for unsaved in filter(None, [_saved(report, target, quiet=quiet) for target in targets]):
                if error is not None:
                    note("warning", str(unsaved))
                error = error or unsaved
            if stdout is not None:
                stdout.write(report_json(report, private=private) + b"\n")
    if error is not None:
        raise error


@cli.command(
    epilog="""\b
Examples:
  star-actors check my_analysis.py --data data/node1 --data data/node2
  star-actors check my_analysis.py --data node1 --data node2 --iterative && echo ready
"""
)
@analysis_options
@traceback_option
def check(file: Path, **options: Any) -> None:
    """Run the analysis in FILE and list what FLAME would do differently.

    Prints a table of findings, and nothing of the result. The exit code is 1 where there are any.
    """

    def start() -> Report:
        from star_actors.options import Checks
        from star_actors.studies.quiet import run_quietly

        return run_quietly(**tester_arguments(file=file, **options), checks=Checks(permute=True))

    report, error = _attempt(start)
    if report is not None and (error is None or report.findings):
        print_findings(file.name, report)
    if error is not None:
        raise error
    if report is not None and report.findings:
        raise click.exceptions.Exit(Exit.FAILED)


@cli.command(
    epilog="""\b
Examples:
  star-actors report run.json
  star-actors report run.json --html run.html
"""
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--html", type=click.Path(dir_okay=False), help="Save it as a page, and as JSON beside it.")
@traceback_option
def report(file: Path, html: str | None) -> None:
    """Show a saved report.

    FILE is the JSON that `run --json PATH` and `run --html` write.
    """
    check_file("--html", html, ".html", ".htm")
    from star_actors import load_report

    saved = load_report(file)
    click.echo(str(saved))
    error = None if html is None else _saved(saved, html, quiet=False)
    if error is not None:
        raise error


def _targets(html: str | None, json_to: str | None, out: str | None) -> list[str]:
    """The paths to save the report to; raises ConfigurationError for one that cannot be, or would be lost."""
    check_file("--html", html, ".html", ".htm")
    if json_to != STDOUT:
        check_file("--json", json_to, ".json")
    targets = [path for path in (html, json_to) if path is not None and path != STDOUT]
    written = {Path(path).resolve() for path in targets}
    written |= {Path(path).with_suffix(".json").resolve() for path in targets}
    if out is not None and Path(out).resolve() in written:
        from star_actors.errors import ConfigurationError

        raise ConfigurationError(f"--out {out} is where the report goes too: give the result a file of its own")
    return targets


def _attempt(start: Callable[[], Report]) -> tuple[Report | None, BaseException | None]:
    """What a run comes to: its report, as far as it came, and the error that ended it."""
    from star_actors.errors import StarError

    try:
        return start(), None
    except (StarError, KeyboardInterrupt) as error:
        return getattr(error, "report", None), error


def _saved(report: Report, path: str, *, quiet: bool) -> BaseException | None:
    """Save a report and say so; gives the error where it cannot be written."""
    from star_actors.errors import ConfigurationError, DeliveryError

    try:
        page = report.save(path)
    except (OSError, ConfigurationError) as error:  # what was there before the run may be gone
        return DeliveryError(f"{path} could not be written: {getattr(error, 'strerror', None) or error}")
    if not quiet:
        note("written", str(page) if page.suffix == ".json" else f"{page}, and {page.with_suffix('.json')}")
    return None
