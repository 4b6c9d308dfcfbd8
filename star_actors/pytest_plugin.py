"""pytest plugin: the fixture `star`, checks of a report, and made-up data that is the same in every session.

It loads in every pytest session where the package is installed, so it imports nothing but pytest; whatever a fixture
needs is imported when a test uses it. Works under pytest-xdist: no fixture shares anything between tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import pytest

if TYPE_CHECKING:
    from star_actors.errors import StarError
    from star_actors.findings import FindingKind
    from star_actors.nodes import StarAggregator, StarAnalyzer
    from star_actors.report import Report
    from star_actors.studies.pooled import Comparison

__all__ = [
    "Patients",
    "Split",
    "Star",
    "assert_converged",
    "assert_equal_to_pooled",
    "assert_ready_for_flame",
    "star",
    "star_patients",
    "star_seed",
    "star_split",
]

DataType = Literal["fhir", "s3"]
Data = TypeVar("Data")

_OURS = str(Path(__file__).parent)


class Star(Protocol):
    """What the fixture `star` is: run an analysis quietly and give its report."""

    def __call__(
        self,
        data_splits: Sequence[Any],
        analyzer: type[StarAnalyzer],
        aggregator: type[StarAggregator],
        data_type: DataType = "s3",
        **options: Any,
    ) -> Report: ...


class Split(Protocol):
    """What the fixture `star_split` is: `star_actors.data.split` with the session's seed."""

    def __call__(self, data: Data, n: int | None = None, how: Any = None, **options: Any) -> list[Data]: ...


class Patients(Protocol):
    """What the fixture `star_patients` is: made-up patients, a split for each node."""

    def __call__(self, nodes: int = 2, rows: int = 100, how: Any = None, **options: Any) -> list[Any]: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--star-seed`."""
    group = parser.getgroup("star_actors", "star_actors: tests of federated analyses")
    group.addoption(
        "--star-seed", type=int, default=0, metavar="N", help="the fixture star_seed, from 0 on (default: 0)"
    )


@pytest.fixture
def star(request: pytest.FixtureRequest) -> Star:
    """Run an analysis quietly: `star(data_splits, analyzer, aggregator, data_type="s3", **options)` gives its report.

    `options` are the other arguments of StarModelTester. It raises what StarModelTester raises; a NodeError comes with
    the lines of the node's own code alone. What nodes log stands in the report, and in a failing test's output.
    """

    def run(
        data_splits: Sequence[Any],
        analyzer: type[StarAnalyzer],
        aggregator: type[StarAggregator],
        data_type: DataType = "s3",
        **options: Any,
    ) -> Report:
        __tracebackhide__ = True
        from star_actors.errors import StarError
        from star_actors.studies.quiet import run_quietly

        try:
            report = run_quietly(data_splits, analyzer, aggregator, data_type, **options)
        except StarError as error:
            if error.report is not None:
                _show_logs(request, error.report)
            raise _of_users(error)  # noqa: B904  (it keeps its cause: the node's own exception)
        _show_logs(request, report)
        return report

    return run


@pytest.fixture
def star_seed(request: pytest.FixtureRequest) -> int:
    """The seed of the data fixtures: `--star-seed`, 0 unless given. A fixture of this name of your own replaces it."""
    seed = request.config.getoption("--star-seed")
    if not isinstance(seed, int) or seed < 0:
        raise pytest.UsageError(f"--star-seed {seed} is given, a whole number from 0 is wanted")
    return seed


@pytest.fixture
def star_split(star_seed: int) -> Split:
    """Cut data into one part per node: `star_actors.data.split`, seeded by `star_seed` unless `seed` is given."""

    def cut(data: Data, n: int | None = None, how: Any = None, **options: Any) -> list[Data]:
        __tracebackhide__ = True
        from star_actors.data import split

        return split(data, n, how, **{"seed": star_seed, **options})

    return cut


@pytest.fixture
def star_patients(star_seed: int, star_split: Split) -> Patients:
    """Made-up patients in FLAME's shape: `star_patients(nodes=2, rows=100)` gives `[[{"patients.csv": bytes}], ...]`.

    Columns: id, age (18 to 90), female (0 or 1), systolic (mmHg, rises with age), diabetes (0 or 1, likelier with age).
    `how` and `options` go to `star_actors.data.split`; labels and groups are named by column, as in `label="diabetes"`.
    The same `star_seed` and arguments give the same bytes, on every machine.
    """

    def patients(nodes: int = 2, rows: int = 100, how: Any = None, **options: Any) -> list[Any]:
        __tracebackhide__ = True
        table = _made_up(rows, star_seed)
        return [[{"patients.csv": _as_csv(part)}] for part in star_split(table, nodes, how, **options)]

    return patients


def assert_converged(report: Report, *, within: int | None = None) -> None:
    """Fail unless an iterative run ended because `has_converged` said so, in `within` rounds at most."""
    __tracebackhide__ = True
    if report.stop_reason == "single round":
        raise AssertionError("the run had one round and never asked has_converged: run it with simple_analysis=False")
    if report.stop_reason != "converged":
        raise AssertionError(f"the run did not converge ({report.stop_reason})\n\n{report}")
    if within is not None and len(report.rounds) > within:
        raise AssertionError(f"the run converged in {len(report.rounds)} rounds, within={within} is wanted\n\n{report}")


def assert_ready_for_flame(report: Report, *, ignore: Sequence[FindingKind] = ()) -> None:
    """Fail, with a list, where the run noticed something that FLAME would do differently.

    `ignore` names kinds of findings that are known and accepted.
    """
    __tracebackhide__ = True
    if isinstance(ignore, str):
        raise TypeError(f"ignore={ignore!r} is given, a list of kinds is wanted: ignore=[{ignore!r}]")
    findings = [finding for finding in report.findings if finding.kind not in ignore]
    if not findings:
        return
    from star_actors.display.formats import count
    from star_actors.display.noticed import grouped

    groups, more = grouped(findings)
    lines = [f"not ready for FLAME: {count(len(groups) + more, 'finding')}"]
    for group in groups:
        at = f" ({group.where})" if group.where else ""
        lines += ["", f"  {group.kind}{at}", f"    {group.message}", f"    {group.advice}"]
    raise AssertionError("\n".join([*lines, *(["", f"  and {more} more"] if more else [])]))


def assert_equal_to_pooled(
    data_splits: Sequence[Any],
    analyzer: type[StarAnalyzer],
    aggregator: type[StarAggregator],
    data_type: DataType = "s3",
    *,
    rtol: float = 1e-9,
    atol: float = 0.0,
    **options: Any,
) -> Comparison:
    """Fail unless the federated result is that of the same analysis on all records at one node.

    Each number may be off by `atol + rtol * abs(pooled)`. `options` are those of `star_actors.studies.compare_pooled`,
    `pool` among them, and of StarModelTester. Gives the comparison.
    """
    __tracebackhide__ = True
    from star_actors.errors import StarError
    from star_actors.studies.pooled import compare_pooled

    try:
        comparison = compare_pooled(data_splits, analyzer, aggregator, data_type, rtol=rtol, atol=atol, **options)
    except StarError as error:
        raise _of_users(error)  # noqa: B904  (it keeps its cause: the node's own exception)
    if not comparison.equal():
        raise AssertionError(str(comparison))
    return comparison


def _show_logs(request: pytest.FixtureRequest, report: Report) -> None:
    """Let pytest show what nodes logged, should the test fail."""
    lines = []
    for log in report.logs:
        when = "constructor" if log.round is None else f"round {log.round}"
        lines.append(f"{log.node_id} {when} {log.log_type}: {log.message}")
    if lines:
        request.node.add_report_section("call", "star logs", "\n".join(lines))


def _of_users(error: StarError) -> StarError:
    """The error without our frames, before it is raised to a test: its cause begins in the user's own code."""
    cause = error.__cause__
    if cause is not None:
        first = cause.__traceback__
        while first is not None and first.tb_frame.f_code.co_filename.startswith(_OURS):
            first = first.tb_next
        cause.__traceback__ = first or cause.__traceback__
    return error.with_traceback(None)


def _made_up(rows: int, seed: int) -> list[dict[str, int]]:
    """Rows of a table. Python's own generator: its stream is the same in every version, NumPy's need not be."""
    import random

    chance = random.Random(seed)
    table = []
    for number in range(1, rows + 1):
        age = 18 + int(73 * chance.random())
        systolic = 100 + 0.5 * age + 12 * sum(chance.random() - 0.5 for _ in range(12))
        table.append(
            {
                "id": number,
                "age": age,
                "female": int(chance.random() < 0.5),
                "systolic": round(systolic),
                "diabetes": int(chance.random() < age / 300),
            }
        )
    return table


def _as_csv(rows: Sequence[dict[str, int]]) -> bytes:
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    return ("\n".join(lines) + "\n").encode()
