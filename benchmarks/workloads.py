"""What the contenders compute: W1 to W6, each with its bare serial loop and a check of the result.

A workload is a small frozen value that pickles, so that every contender, whatever process its nodes live in, runs
the very same `analyze` and `combine`. Arrays are made from formulas, not from random numbers: quickly, and the same
on every machine.
"""

from __future__ import annotations

import dataclasses
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = [
    "WORKLOADS",
    "BlockingIO",
    "Broadcast",
    "Numpy",
    "Overhead",
    "Payload",
    "PurePython",
    "Workload",
    "bare_loop",
    "from_dict",
]

ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

# The last aggregate's weight in a blend, in which a node's own part has weight 1: so the aggregate rises towards 1,000
# times the nodes' mean, and still moves after 20,000 rounds. A contender that left out one round or one node ends with
# another value.
MEMORY = 0.999


@dataclass(frozen=True, kw_only=True)
class Workload(ABC):
    """One workload at one size: `n` analyzers, `rounds` rounds of which the first `warmup` are not timed."""

    n: int
    rounds: int
    warmup: int = 1

    name: ClassVar[str]
    title: ClassVar[str]
    floor: ClassVar[float] = 0.0
    """No honest round takes fewer seconds than this."""
    environment: ClassVar[Mapping[str, str]] = {}
    """What the environment of the measuring process must hold."""

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 < self.warmup < self.rounds:
            raise ValueError(f"at least 1 node and 0 < warmup < rounds are wanted, {self} is given")

    @property
    def case(self) -> str:
        """The workload and its size, e.g. "W1 n=100"."""
        return f"{self.name} n={self.n}"

    @abstractmethod
    def split(self, index: int) -> Any:
        """The data of one node."""

    def splits(self) -> list[Any]:
        """The data of every node, in order."""
        return [self.split(index) for index in range(self.n)]

    @property
    @abstractmethod
    def analyze(self) -> Callable[[Any, Any], Any]:
        """From one split and the last aggregate (None in round 0) to one contribution."""

    @property
    @abstractmethod
    def combine(self) -> Callable[[list[Any]], Any]:
        """From the contributions in node order to the aggregate; it depends on their mean only."""

    def ideal(self, bare_seconds: float, cores: int) -> float:
        """Seconds that a round takes at best, where the bare serial loop takes `bare_seconds`."""
        return bare_seconds

    def expected(self) -> Any:
        """The aggregate of the last round, by the bare loop."""
        return bare_loop(self)

    def fault(self, result: Any, *, exact: bool) -> str | None:
        """What is wrong with a contender's last aggregate, or None.

        `exact=False` allows for sums taken in another order than that of the nodes.
        """
        expected = self.expected()
        if type(expected) is float:
            right = type(result) is float and (
                result == expected if exact else math.isclose(result, expected, rel_tol=1e-9)
            )
        else:
            import numpy as np

            right = getattr(result, "shape", None) == expected.shape and bool(
                np.array_equal(result, expected) if exact else np.allclose(result, expected, rtol=1e-9)
            )
        return None if right else f"{self.case}: {_short(expected)} is the result, the contender has {_short(result)}"

    def to_dict(self) -> dict[str, Any]:
        """The workload as plain values; `from_dict` restores it."""
        return {"name": self.name, **dataclasses.asdict(self)}


def from_dict(plain: Mapping[str, Any]) -> Workload:
    """The workload that `Workload.to_dict` described."""
    values = dict(plain)
    return WORKLOADS[values.pop("name")](**values)


def bare_loop(workload: Workload, lap: Callable[[Any], object] | None = None) -> Any:
    """The same work in a plain `for` loop, without nodes; `lap` is called with the aggregate of every round."""
    analyze, combine, splits = workload.analyze, workload.combine, workload.splits()
    aggregate = None
    for _ in range(workload.rounds):
        contributions = []
        for split in splits:
            contributions.append(analyze(split, aggregate))  # noqa: PERF401 - the bare loop is the yardstick
        aggregate = combine(contributions)
        if lap is not None:
            lap(aggregate)
    return aggregate


def _mean(contributions: list[Any]) -> Any:
    return sum(contributions) / len(contributions)


def _blended_average(split: list[float], aggregate: float | None) -> float:
    average = sum(split) / len(split)
    return average if aggregate is None else average + MEMORY * aggregate


@dataclass(frozen=True, kw_only=True)
class Overhead(Workload):
    """W1: each analyzer averages 3 floats and blends them with the last aggregate, the aggregator averages N floats."""

    name: ClassVar[str] = "W1"
    title: ClassVar[str] = "overhead: 3 floats a node"

    def split(self, index: int) -> list[float]:
        # Their average is index + 1/3: no two nodes have the same.
        return [float(index), index + 0.25, index + 0.75]

    @property
    def analyze(self) -> Callable[[Any, Any], Any]:
        return _blended_average

    @property
    def combine(self) -> Callable[[list[Any]], Any]:
        return _mean


class _Shared(Workload):
    """A workload whose nodes can share the cores: the ideal is the serial time divided by the number of cores."""

    def ideal(self, bare_seconds: float, cores: int) -> float:
        return bare_seconds / min(cores, self.n)


@dataclass(frozen=True, kw_only=True)
class Numpy(_Shared):
    """W2: each analyzer computes `X.T @ X` on 2000 x 200 float64, `repeats` times (about 20 ms), BLAS on one thread."""

    repeats: int = 1

    name: ClassVar[str] = "W2"
    title: ClassVar[str] = "NumPy: X.T @ X for about 20 ms"
    environment: ClassVar[Mapping[str, str]] = ONE_BLAS_THREAD

    def split(self, index: int) -> Any:
        import numpy as np

        return np.sin(np.arange(2000 * 200, dtype=np.float64) + index).reshape(2000, 200)

    @property
    def analyze(self) -> Callable[[Any, Any], Any]:
        return self._gram

    def _gram(self, x: Any, aggregate: Any) -> Any:
        gram = x.T @ x
        for _ in range(1, self.repeats):
            gram = x.T @ x
        return gram if aggregate is None else gram + MEMORY * aggregate

    @property
    def combine(self) -> Callable[[list[Any]], Any]:
        return _mean

    def calibrated(self, seconds: float = 0.02) -> Numpy:
        """The same with `repeats` such that one analyzer takes about `seconds` here."""
        x = self.split(0)
        one = dataclasses.replace(self, repeats=1)
        return dataclasses.replace(self, repeats=max(1, round(seconds / _quickest(lambda: one._gram(x, None)))))


@dataclass(frozen=True, kw_only=True)
class PurePython(_Shared):
    """W3: each analyzer runs `steps` steps of interpreter work (about 50 ms) that start from the last aggregate."""

    steps: int = 500_000

    name: ClassVar[str] = "W3"
    title: ClassVar[str] = "pure Python: about 50 ms of interpreter work"

    def split(self, index: int) -> int:
        return index + 1

    @property
    def analyze(self) -> Callable[[Any, Any], Any]:
        return self._congruences

    def _congruences(self, seed: int, aggregate: float | None) -> float:
        x = seed if aggregate is None else seed + int(aggregate)
        for _ in range(self.steps):
            x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        return float(x)

    @property
    def combine(self) -> Callable[[list[Any]], Any]:
        return _mean

    def calibrated(self, seconds: float = 0.05) -> PurePython:
        """The same with `steps` such that one analyzer takes about `seconds` here."""
        trial = dataclasses.replace(self, steps=50_000)
        each = _quickest(lambda: trial._congruences(1, None)) / trial.steps
        return dataclasses.replace(self, steps=max(1, round(seconds / each)))


@dataclass(frozen=True, kw_only=True)
class BlockingIO(Workload):
    """W4: 50 analyzers, each `time.sleep(0.05)`."""

    name: ClassVar[str] = "W4"
    title: ClassVar[str] = "blocking I/O: time.sleep(0.05) a node"
    floor: ClassVar[float] = 0.05

    def split(self, index: int) -> list[float]:
        return [float(index), index + 0.25, index + 0.75]

    @property
    def analyze(self) -> Callable[[Any, Any], Any]:
        return _sleep_and_average

    @property
    def combine(self) -> Callable[[list[Any]], Any]:
        return _mean

    def ideal(self, bare_seconds: float, cores: int) -> float:
        return self.floor

    def expected(self) -> Any:
        # The values are those of W1; sleeping through the bare loop would take 2.5 s a round.
        return bare_loop(Overhead(n=self.n, rounds=self.rounds, warmup=self.warmup))


def _sleep_and_average(split: list[float], aggregate: float | None) -> float:
    time.sleep(BlockingIO.floor)
    return _blended_average(split, aggregate)


@dataclass(frozen=True, kw_only=True)
class Payload(Workload):
    """W5: 4 nodes exchange an array of `elements` float64 (5M: 40 MB) up and down: `(x + r) * 0.5`, then the mean."""

    elements: int = 5_000_000

    name: ClassVar[str] = "W5"
    title: ClassVar[str] = "payload: a 40 MB array up and down"

    def split(self, index: int) -> Any:
        import numpy as np

        return np.arange(index, index + self.elements, dtype=np.float64)

    @property
    def analyze(self) -> Callable[[Any, Any], Any]:
        return _halfway

    @property
    def combine(self) -> Callable[[list[Any]], Any]:
        return _mean


def _halfway(x: Any, r: Any) -> Any:
    return (x + (0.0 if r is None else r)) * 0.5


@dataclass(frozen=True, kw_only=True)
class Broadcast(Workload):
    """W6: one aggregate of `elements` float64 (5M: 40 MB) to 1,000 analyzers that read it, once a page.

    The analyzers ask for it with -1.0 in round 0, and send the mean of what they read, plus their own number, in
    round 1, whose aggregate is a float: so exactly one large array is ever sent.
    """

    elements: int = 5_000_000

    name: ClassVar[str] = "W6"
    title: ClassVar[str] = "broadcast: a 40 MB array to every node"

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return 8 * self.elements

    def split(self, index: int) -> float:
        return float(index)

    @property
    def analyze(self) -> Callable[[Any, Any], Any]:
        return _read

    @property
    def combine(self) -> Callable[[list[Any]], Any]:
        return self._spread

    def _spread(self, contributions: list[float]) -> Any:
        import numpy as np

        mean = float(_mean(contributions))
        return np.arange(self.elements, dtype=np.float64) if mean < 0 else mean


def _read(split: float, aggregate: Any) -> float:
    if not hasattr(aggregate, "shape"):
        return -1.0
    pages = aggregate[::512]
    return split + float(pages.sum()) / len(pages)


def _quickest(work: Callable[[], object], times: int = 5) -> float:
    def once() -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return min(once() for _ in range(times))


def _short(value: Any) -> str:
    text = repr(value) if not hasattr(value, "shape") else f"array{value.shape} beginning {value.ravel()[:3]}"
    return text if len(text) < 90 else text[:87] + "..."


WORKLOADS: dict[str, type[Workload]] = {
    w.name: w for w in (Overhead, Numpy, PurePython, BlockingIO, Payload, Broadcast)
}
"""By name, "W1" to "W6"."""
