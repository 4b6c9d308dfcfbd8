"""Runs the contenders side by side: a process per measurement, contenders interleaved, repeat after repeat."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from .contenders import CONTENDERS, Contender
from .measurement import Measurement
from .memory import Sampler, descendants
from .workloads import BlockingIO, Broadcast, Numpy, Overhead, Payload, PurePython, Workload, from_dict

__all__ = ["Import", "Results", "calibrated", "cases", "import_times", "measure", "run"]

ROOT = Path(__file__).parent.parent
TIMEOUT = 150.0
"""Seconds after which one measurement is given up."""

SIZES = (2, 10, 100, 1000, 10_000)
"""Numbers of nodes that W1 is measured at."""

HEAVY = ("opendp", "matplotlib", "dask", "distributed", "pandas", "httpx", "boto3", "rich.console", "rich.progress")
"""What `import star_actors` must not load."""


class Import(msgspec.Struct):
    """How long an import statement took in a fresh interpreter, and which heavy packages it loaded."""

    statement: str
    seconds: float
    heavy: list[str]


class Results(msgspec.Struct, kw_only=True):
    """Everything that one run measured, as `raw.json` holds it."""

    measurements: list[Measurement]
    imports: list[Import] = []
    left_out: dict[str, str] = {}
    """Contenders that could not run here, and why."""
    unfit: dict[str, dict[str, str]] = {}
    """By case and contender: why it was not measured on it."""
    cores: int
    machine: str = ""
    versions: dict[str, str] = {}
    load: tuple[float, float] = (0.0, 0.0)
    """The machine's load average (1 minute) before and after."""


def cases(names: Sequence[str], sizes: Sequence[int] | None = None) -> list[Workload]:
    """The workloads of that name at their sizes; `sizes` are numbers of nodes for W1."""
    found: list[Workload] = []
    for name in names:
        match name:
            case "W1":
                for n in sizes or SIZES:
                    rounds = max(20, min(10_000, 200_000 // n))
                    found.append(Overhead(n=n, rounds=rounds, warmup=rounds // 10))
            case "W2":
                found.append(calibrated(Numpy(n=8, rounds=14, warmup=4)))
            case "W3":
                found.append(calibrated(PurePython(n=8, rounds=9, warmup=3)))
            case "W4":
                found.append(BlockingIO(n=50, rounds=12, warmup=3))
            case "W5":
                found.append(Payload(n=4, rounds=8, warmup=2))
            case "W6":
                found.append(Broadcast(n=1000, rounds=2, warmup=1))
    return found


def run(
    workloads: Sequence[Workload],
    names: Sequence[str],
    *,
    repeats: int,
    heavy_repeats: int,
    say: Callable[[str], object],
) -> Results:
    """Measure every workload with every contender, interleaved; slow ones at most `heavy_repeats` times."""
    left_out = {name: why for name in names if (why := CONTENDERS[name].available()) is not None}
    running = [CONTENDERS[name] for name in names if name not in left_out]
    results = Results(
        measurements=[],
        left_out=left_out,
        cores=_cores(),
        machine=f"{platform.platform()}, {platform.machine()}, Python {platform.python_version()}",
        versions=_versions(),
    )
    before = _load()
    for workload in workloads:
        unfit = {c.name: why for c in running if (why := c.unfit(workload)) is not None}
        results.unfit[workload.case] = unfit
        fit = [c for c in running if c.name not in unfit]
        gave_up: set[str] = set()
        for repeat in range(repeats):
            # Another one begins each time, so that nobody always runs right after the same neighbour.
            for contender in fit[repeat % len(fit) :] + fit[: repeat % len(fit)] if fit else ():
                if contender.name in gave_up or (contender.seldom(workload) and repeat >= heavy_repeats):
                    continue
                measurement = measure(contender, contender.sized(workload))
                measurement.repeat = repeat
                results.measurements.append(measurement)
                if measurement.fault is not None:
                    gave_up.add(contender.name)
                say(f"{workload.case}, repeat {repeat + 1}/{repeats}: {contender.name} {_told(measurement)}")
    results.load = (before, _load())
    return results


def measure(contender: Contender, workload: Workload, timeout: float = TIMEOUT) -> Measurement:
    """Measure one contender on one workload, once, in a process of its own."""
    began, wall = time.perf_counter(), time.time()
    with tempfile.TemporaryFile() as log, _child([contender.name, repr(began)], contender, workload, log) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # A look at a thousand mappings takes a second; W6 is about memory, so there it may disturb the time.
        sampler = Sampler(process.pid, duty=0.9 if isinstance(workload, Broadcast) else 0.03)
        alarm = _Deadline(process, timeout)
        with alarm, sampler:
            process.stdin.write(msgspec.json.encode(workload.to_dict()) + b"\n")
            process.stdin.flush()
            if process.stdout.readline():
                sampler.sample()
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(b"\n")
                    process.stdin.flush()
            line = process.stdout.readline()
        if line:
            measurement = msgspec.json.decode(line, type=Measurement)
        else:
            process.wait()
            measurement = Measurement(contender=contender.name, workload=workload.to_dict())
            measurement.fault = (
                f"gave up after {timeout:.0f} s"
                if alarm.passed
                else f"ended with exit code {process.returncode}: {_tail(log)}"
            )
        measurement.memory = sampler.peak
    measurement.began, measurement.ended = wall, time.time()
    return measurement


def calibrated(workload: Numpy | PurePython) -> Workload:
    """The workload with as much work per node as it should have on this machine; all contenders get the same."""
    with tempfile.TemporaryFile() as log, _child(["calibrate"], None, workload, log) as process:
        answer, _ = process.communicate(msgspec.json.encode(workload.to_dict()) + b"\n")
        if process.returncode:
            raise RuntimeError(f"{workload.name} could not be calibrated: {_tail(log)}")
    return from_dict(msgspec.json.decode(answer))


def import_times(repeats: int) -> list[Import]:
    """How long it takes to import star_actors, and to get hold of its testers, in fresh interpreters."""
    statements = ("import star_actors", "from star_actors import StarAggregator, StarAnalyzer, StarModelTester")
    found = []
    for _ in range(repeats):
        for statement in statements:
            code = (
                f"import time; begin = time.perf_counter(); {statement}; seconds = time.perf_counter() - begin\n"
                f"import sys; print(seconds, *[name for name in {HEAVY} if name in sys.modules])"
            )
            answer = subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.split()
            found.append(Import(statement, float(answer[0]), answer[1:]))
    return found


class _Deadline:
    """Ends a process, and all that it started, when its time is up or the block is left while it still runs."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        import threading

        self.passed = False
        self._process = process
        self._timer = threading.Timer(seconds, self._ring)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()

    def _ring(self) -> None:
        self.passed = True
        _end(self._process)


def _end(process: subprocess.Popen[bytes]) -> None:
    started = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    for pid in {*started, *descendants(process.pid)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _child(arguments: list[str], contender: Contender | None, workload: Workload, log: IO[bytes]) -> Any:
    environment = {**os.environ, **workload.environment, **(contender.environment if contender else {})}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.child", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
    ) as process:
        try:
            yield process
        except BaseException:
            _end(process)
            raise


def _tail(log: IO[bytes], lines: int = 1) -> str:
    log.seek(0)
    return " | ".join(log.read().decode(errors="replace").strip().splitlines()[-lines:])


def _told(measurement: Measurement) -> str:
    if measurement.fault is not None:
        return f"failed: {measurement.fault}"
    assert measurement.seconds is not None
    return f"{measurement.seconds * 1e6:,.1f} µs a round, {measurement.memory / 1e6:.0f} MB"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _versions() -> dict[str, str]:
    found = {}
    for package in ("anyio", "flwr", "greenlet", "msgspec", "numpy", "pfl", "pykka", "ray", "vantage6-algorithm-tools"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
