"""The frozen option objects of a run: each checks itself when it is made, before any node starts."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import ConfigurationError

__all__ = ["Auto", "Checks", "Dask", "EngineOptions", "History", "Privacy", "Processes", "Serial", "Threads"]

MEGABYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """Differential privacy of a run: what is protected, how much, and where the noise is added.

    `epsilon` is spent by every release; `sensitivity` bounds how far one person can move the whole flattened result
    (L1 norm; L2 with `delta`, which switches from Laplace to Gaussian noise).
    `noise_at`: "final" noises what is released, "broadcast" every aggregate before it leaves the aggregator,
    "analyzer" every contribution before it leaves its node.
    `clip` scales contributions down to this norm (L1; L2 with `delta`) before they leave their node.
    `integers`: "float" gives integers float noise, as on FLAME; "discrete" keeps them integers.
    `budget` is the most epsilon that the run may spend in all; `disjoint` says that sites hold different people.
    `keep_exact=True` keeps the exact aggregates in the report, which is then marked as a rehearsal.
    Raises ConfigurationError for values that protect nothing. Source: Dwork et al. 2006; Dwork and Roth 2014.
    """

    epsilon: float
    sensitivity: float
    delta: float | None = None
    noise_at: Literal["final", "broadcast", "analyzer"] = "final"
    clip: float | None = None
    integers: Literal["float", "discrete"] = "float"
    budget: float | None = None
    disjoint: bool = True
    keep_exact: bool = False

    def __post_init__(self) -> None:
        for name in ("epsilon", "sensitivity"):
            _positive(name, getattr(self, name), "noise needs both epsilon and sensitivity")
        for name in ("clip", "budget"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name), f"leave {name} out where it is not wanted")
        if self.delta is not None:
            _positive("delta", self.delta, "a small probability such as 1e-6, or leave it out for Laplace noise")
            if self.delta >= 1:
                raise ConfigurationError(f"delta={self.delta!r} is given, a probability below 1 is wanted, e.g. 1e-6")
        one_of("noise_at", self.noise_at, ("final", "broadcast", "analyzer"))
        one_of("integers", self.integers, ("float", "discrete"))
        if self.integers == "discrete" and self.sensitivity < 1:
            raise ConfigurationError(
                f'sensitivity={self.sensitivity!r} is given with integers="discrete": one person moves an integer by 1 '
                "at least, so a sensitivity from 1 is wanted; below it the noise would leave most integers as they are"
            )
        for name in ("disjoint", "keep_exact"):
            one_of(name, getattr(self, name), (True, False))


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What a run looks for besides its result.

    `strict` turns findings into errors; `permute` also aggregates permuted contributions and compares;
    `min_cell` is the smallest count of people that may leave a node without a finding.
    """

    strict: bool = False
    permute: bool = False
    min_cell: int = 5

    def __post_init__(self) -> None:
        if isinstance(self.min_cell, bool) or not isinstance(self.min_cell, int) or self.min_cell < 0:
            raise ConfigurationError(f"min_cell={self.min_cell!r} is given, a whole number from 0 is wanted, e.g. 5")
        for name in ("strict", "permute"):
            one_of(name, getattr(self, name), (True, False))


@dataclass(frozen=True, kw_only=True)
class History:
    """What a run keeps.

    `max_bytes` bounds the aggregates and per-node times in the report (newest first; every round's scalars are kept).
    `storage_dir` keeps what nodes save with `save_intermediate_data(..., "local")` between runs; None: for the run.
    """

    max_bytes: int = 64 * MEGABYTE
    storage_dir: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.max_bytes, bool) or not isinstance(self.max_bytes, int) or self.max_bytes < 0:
            raise ConfigurationError(f"max_bytes={self.max_bytes!r} is given, a number of bytes from 0 is wanted")
        if self.storage_dir is not None and Path(self.storage_dir).is_file():
            raise ConfigurationError(f"storage_dir={str(self.storage_dir)!r} is a file, a folder is wanted")


@dataclass(frozen=True, kw_only=True)
class Serial:
    """One thread, node after node: the calling thread in a blocking call, so that breakpoints and profilers work."""


@dataclass(frozen=True, kw_only=True)
class Auto:
    """Cheap methods one after the other on the run's own thread, slow and blocking ones beside each other."""

    max_threads: int = 256

    def __post_init__(self) -> None:
        _count("max_threads", self.max_threads)


@dataclass(frozen=True, kw_only=True)
class Threads:
    """Every node on a worker thread of its own, up to `max_threads`; nodes share threads beyond it."""

    max_threads: int = 256

    def __post_init__(self) -> None:
        _count("max_threads", self.max_threads)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Nodes in `workers` worker processes (None: one a core); needs the extra `processes`."""

    workers: int | None = None
    max_threads: int = 256

    def __post_init__(self) -> None:
        if self.workers is not None:
            _count("workers", self.workers)
        _count("max_threads", self.max_threads)


@dataclass(frozen=True)
class Dask:
    """Nodes on the workers of a Dask cluster, many to a worker; needs the extra `dask`.

    `cluster` is a `distributed.Client`, a cluster object, or the scheduler's address.
    `on_worker_loss`: "fail" ends the run, "restart" restores the lost nodes after the last finished round.
    """

    cluster: Any
    on_worker_loss: Literal["fail", "restart"] = "fail"
    max_threads: int = 256

    def __post_init__(self) -> None:
        one_of("on_worker_loss", self.on_worker_loss, ("fail", "restart"))
        _count("max_threads", self.max_threads)


EngineOptions = Serial | Auto | Threads | Processes | Dask

ENGINES: dict[str, type[Serial | Auto | Threads | Processes]] = {
    "auto": Auto,
    "serial": Serial,
    "threads": Threads,
    "processes": Processes,
}


def one_of(name: str, given: object, wanted: tuple[object, ...]) -> None:
    """Raise ConfigurationError unless `given` is one of `wanted`."""
    if not any(type(given) is type(w) and given == w for w in wanted):
        choices = " or ".join(repr(w) for w in wanted)
        raise ConfigurationError(f"{name}={given!r} is given, {choices} is wanted")


def is_number(value: object) -> bool:
    """Whether `value` is a real number as options take it: an int or float (NumPy's included), not a bool."""
    import numbers

    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _positive(name: str, value: Any, advice: str) -> None:
    if not is_number(value) or not math.isfinite(value) or value <= 0:
        raise ConfigurationError(f"{name}={value!r} is given, a finite number above 0 is wanted: {advice}")


def _count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name}={value!r} is given, a whole number from 1 is wanted")
