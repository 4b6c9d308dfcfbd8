"""What a run tells: the report, and the record that a run writes it from."""

from __future__ import annotations

import sys
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from .findings import Finding
from .release.withheld import Withheld

if TYPE_CHECKING:
    from .display.diagnosis import Diagnosis
    from .display.plots import ReportFigure
    from .messages import Contribution

__all__ = ["Log", "NodeInfo", "NodeSeconds", "Output", "Record", "Release", "Report", "Round", "StopReason", "Summary"]

StopReason = Literal["single round", "converged", "max_iterations", "timeout", "stopped", "budget", "failed"]


class Output(msgspec.Struct):
    """One released result: its `kind` of encoding, the encoded `value`, and the `path` it was written to."""

    kind: Literal["str", "bytes", "pickle"]
    value: str | bytes
    path: Path | None = None


class Log(msgspec.Struct, frozen=True):
    """One line that a node logged; `round` is None in a constructor."""

    node_id: str
    role: str
    round: int | None
    log_type: str
    message: str


class NodeInfo(msgspec.Struct):
    """One node: its id and role, whether it holds a split, and where its code ran.

    `ran_on` is "run thread", "worker thread", or a worker process; `moved` is the round in which it was measured
    slow and moved to a thread of its own; `stuck` says that a method never returned and was left behind.
    """

    id: str
    role: str
    has_data: bool = True
    ran_on: str = "run thread"
    moved: int | None = None
    stuck: bool = False
    progress: int = 0


class Summary(msgspec.Struct, frozen=True):
    """Stands for an aggregate that the history had no room for."""

    type: str
    nbytes: int
    shape: tuple[int, ...] | None = None


class NodeSeconds(Mapping[str, float]):
    """Seconds that each node's own code took in one round, by node id; waiting for messages is not counted."""

    __slots__ = ("_ids", "_seconds")

    def __init__(self, ids: Sequence[str], seconds: Sequence[float]) -> None:
        self._ids = ids
        self._seconds = seconds

    def __getitem__(self, node_id: str) -> float:
        try:
            return self._seconds[self._ids.index(node_id)]
        except ValueError:
            raise KeyError(node_id) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def items(self) -> Any:
        return dict(zip(self._ids, self._seconds, strict=True)).items()

    def values(self) -> Any:
        return list(self._seconds)

    def __repr__(self) -> str:
        return repr(dict(self.items()))


class Round(msgspec.Struct, frozen=True):
    """One finished round.

    `node_seconds` is empty, and `aggregate` a Summary, where the history had no room. `bytes_up` and `bytes_down` are
    the sizes of all contributions and of the aggregate to every node; estimated where nothing had to be pickled.
    """

    number: int
    aggregate: Any
    seconds: float
    node_seconds: Mapping[str, float]
    bytes_up: int
    bytes_down: int


class Release(msgspec.Struct, frozen=True):
    """One release through a privacy mechanism; `scale` is the noise scale (Laplace b, or Gaussian sigma)."""

    round: int
    node_id: str
    mechanism: str
    scale: float
    epsilon: float
    delta: float = 0.0


class Report(msgspec.Struct, kw_only=True):
    """What a run did and what it ended with.

    `result` is the released object and `outputs[].value` its encoding. `rounds` holds the finished rounds. `failure`
    says in a line what ended a run that did not get that far, without the text of the user's own exception. Where
    privacy is on, exact aggregates stand as `Withheld`, unless the run was a rehearsal (`keep_exact=True`).
    """

    result: Any = None
    outputs: list[Output] = []
    rounds: list[Round] = []
    nodes: list[NodeInfo] = []
    logs: list[Log] = []
    stop_reason: StopReason | None = None
    failure: str | None = None
    warnings: list[str] = []
    findings: list[Finding] = []
    privacy: Any = None
    seconds: float = 0.0

    def to_json(self) -> bytes:
        """The report as JSON; what JSON has no word for is tagged, so that `load_report` restores it."""
        from .tagged import dump_report

        return dump_report(self)

    @property
    def diagnosis(self) -> Diagnosis:
        """How the run went, in words: its kind, a sentence, and a sentence of advice."""
        from .display.diagnosis import diagnose

        return diagnose(self)

    def plot(self) -> ReportFigure:
        """A Matplotlib figure: the numbers of the aggregate, change, node times and bytes by round.

        Needs the extra `plots`; raises ConfigurationError where it is missing. No window is opened and no global state
        is touched: `figure.savefig(...)` it, or let a notebook show it.
        """
        from .display.plots import plot

        return plot(self)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the report as one self-contained page, `run.html`, and beside it `run.json` for `load_report`.

        A path that ends in `.json` writes that alone. Missing parent folders are made. Returns the path. Raises
        ConfigurationError for any other ending, OSError where it cannot be written.
        """
        from .display.export import save

        return save(self, path)

    def __str__(self) -> str:
        from .display.summary import as_text

        return as_text(self)

    def __repr__(self) -> str:
        from .display.summary import as_line

        return as_line(self)

    def _repr_html_(self) -> str:
        from .display.notebook import as_html

        return as_html(self)


class Record:
    """What a run writes down as it goes; `report()` may be called from any thread, at any time.

    `arrived` holds the contributions to the round under way, as they came, for a live display; None where the exchange
    does not tell. `known_before` is how many warnings are about the call itself, and not about what it did.
    """

    def __init__(self, nodes: list[NodeInfo], max_bytes: int, *, withhold: bool) -> None:
        self.nodes = nodes
        self.result: Any = None
        self.outputs: list[Output] = []
        self.stop_reason: StopReason | None = None
        self.failure: str | None = None
        self.known_before = 0
        self.warnings: list[str] = []
        self.findings: list[Finding] = []
        self.account: Callable[[], Any] | None = None
        self.noised: tuple[int, int] | None = None
        self.seconds = 0.0
        self.arrived: list[list[Contribution]] | None = None
        self._withhold = withhold
        self._ids = tuple(node.id for node in nodes)
        # Reentrant, and lines of logs wait outside of it: a finalizer that logs may run wherever memory is allocated.
        self._lock = threading.RLock()
        self._incoming: deque[tuple[Log, bool]] = deque()
        self._taking = False
        self._room = max_bytes
        self._scalars = (array("d"), array("q"), array("q"))
        self._kept: deque[tuple[Any, int, array[float]]] = deque()
        self._dropped: deque[Summary] = deque()
        self._logs: deque[Log] = deque()
        self._dropped_logs = 0
        self._logged = 0
        self._seen: set[tuple[str, str | None, str | None, str]] = set()

    @property
    def finished_rounds(self) -> int:
        """How many rounds have finished."""
        return len(self._scalars[0])

    def finish_round(
        self, aggregate: Any, nbytes: int, seconds: float, node_seconds: array[float], bytes_up: int, bytes_down: int
    ) -> None:
        """Add a finished round. `aggregate` is the record's own copy, `nbytes` its size."""
        if self._withhold:
            aggregate = Withheld()
            nbytes = 0
        with self._lock:
            for column, value in zip(self._scalars, (seconds, bytes_up, bytes_down), strict=True):
                column.append(value)  # type: ignore[attr-defined]  # mypy joins the arrays' types to object
            self._kept.append((aggregate, nbytes, node_seconds))
            self._room -= nbytes + node_seconds.itemsize * len(node_seconds)
            self._make_room()

    def log(self, entry: Log, append: bool = False) -> None:
        """Add a log line, or continue the node's last one of this round; the oldest make room for it."""
        self._incoming.append((entry, append))
        if self._lock.acquire(blocking=False):
            try:
                self._take_logs()
            finally:
                self._lock.release()

    def _take_logs(self) -> None:
        if self._taking:  # by whom this has interrupted, who goes on until none is left
            return
        self._taking = True
        while self._incoming:
            entry, append = self._incoming.popleft()
            if append and self._continued(entry):
                continue
            self._logs.append(entry)
            self._logged += 1
            self._room -= _size(entry)
            self._make_room()
        self._taking = False

    def _continued(self, entry: Log) -> bool:
        for i in range(len(self._logs) - 1, -1, -1):
            last = self._logs[i]
            if last.node_id == entry.node_id:
                if last.round != entry.round:
                    return False
                self._logs[i] = msgspec.structs.replace(last, message=last.message + entry.message)
                self._room -= sys.getsizeof(entry.message)
                return True
        return False

    @property
    def has_fresh_logs(self) -> bool:
        """Whether there is a log line that `fresh_logs` has not given yet."""
        return self._logged > 0 or bool(self._incoming)

    def fresh_logs(self) -> list[Log]:
        """The log lines since the last time this was asked."""
        with self._lock:
            self._take_logs()
            fresh = min(self._logged, len(self._logs))
            self._logged = 0
            return list(self._logs)[len(self._logs) - fresh :] if fresh else []

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        with self._lock:
            if text not in self.warnings:
                self.warnings.append(text)

    def find(self, finding: Finding) -> bool:
        """Add a finding, once for its kind, node and path; True where it is new."""
        key = (finding.kind, finding.node_id, finding.path, finding.message)
        with self._lock:
            if key in self._seen:
                return False
            self._seen.add(key)
            self.findings.append(finding)
        return True

    def round(self, number: int) -> Round:
        """One finished round."""
        with self._lock:
            return self._round(number)

    def report(self) -> Report:
        """The report as it stands."""
        with self._lock:
            self._take_logs()
            warnings = list(self.warnings)
            if self._dropped:
                warnings.append(
                    f"history: the aggregates and node times of {len(self._dropped)} older rounds were dropped to stay "
                    "within History(max_bytes=...); their scalars are kept"
                )
            if self._dropped_logs:
                warnings.append(f"history: {self._dropped_logs} older log lines were dropped")
            return Report(
                result=self.result,
                outputs=list(self.outputs),
                rounds=[self._round(i) for i in range(self.finished_rounds)],
                nodes=[msgspec.structs.replace(node) for node in self.nodes],
                logs=list(self._logs),
                stop_reason=self.stop_reason,
                failure=self.failure,
                warnings=warnings,
                findings=list(self.findings),
                privacy=None if self.account is None else self.account(),
                seconds=self.seconds,
            )

    def _round(self, number: int) -> Round:
        seconds, up, down = (column[number] for column in self._scalars)
        kept = number - len(self._dropped)
        if kept < 0:
            return Round(number, self._dropped[number], seconds, {}, int(up), int(down))
        aggregate, _, node_seconds = self._kept[kept]
        return Round(number, aggregate, seconds, NodeSeconds(self._ids, node_seconds), int(up), int(down))

    def _make_room(self) -> None:
        # Newest first; the newest round always stays, whatever its size.
        while self._room < 0 and (len(self._kept) > 1 or self._logs):
            if len(self._kept) > 1:
                aggregate, nbytes, node_seconds = self._kept.popleft()
                self._room += nbytes + node_seconds.itemsize * len(node_seconds)
                self._dropped.append(Summary(type(aggregate).__name__, nbytes, getattr(aggregate, "shape", None)))
            else:
                self._room += _size(self._logs.popleft())
                self._dropped_logs += 1


def _size(entry: Log) -> int:
    return 120 + sys.getsizeof(entry.message)
