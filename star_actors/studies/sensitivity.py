"""Is my sensitivity right? The analysis on neighbouring data, and how far one record moves what noise protects.

A search over neighbours can refute a declared sensitivity. It cannot prove one: other data may have neighbours that
lie further apart. `Privacy(clip=...)` enforces a sensitivity instead of believing it.

Source: Dwork and Roth 2014, section 3.3 (L1 sensitivity) and appendix A (L2).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from star_actors.config import RunConfig, configure
from star_actors.errors import ConfigurationError, NodeError, NotConvergedError, PrivacyError
from star_actors.nodes import StarAggregator, StarAnalyzer
from star_actors.options import Privacy, is_number
from star_actors.release.flatten import Flat, flatten

from .exact import exact_result, without_noise
from .records import Records, take_apart

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Change", "Failure", "SensitivityCheck", "check_sensitivity"]

_WHAT = {"final": "the result", "broadcast": "the aggregate of the first round", "analyzer": "the contributions"}


@dataclass(frozen=True)
class Change:
    """How far one neighbour moved the result: `record` of `node_id` left out, or replaced by `candidate` (its place).

    `size` is infinite where the neighbour's result is laid out differently, which no noise hides.
    """

    node_id: str
    record: int
    candidate: int | None
    size: float

    def __str__(self) -> str:
        by = "left out" if self.candidate is None else f"replaced by candidate {self.candidate}"
        return f"{self.size:.6g} with record {self.record} of {self.node_id} {by}"


@dataclass(frozen=True)
class Failure:
    """A neighbour on which the analysis failed, or gave what noise cannot be added to: `error` names the exception."""

    node_id: str
    record: int
    candidate: int | None
    error: str


@dataclass(frozen=True)
class SensitivityCheck:
    """What was found: the `largest` change in the L1 norm (L2 with `delta`), over `checked` of `total` neighbours.

    `declared` is the sensitivity that was put to the test (None: none was). `slack` is what rounding may have added
    to a change. `failures` are neighbours without a result: that a run fails can itself give a record away.
    """

    largest: Change | None
    declared: float | None
    norm: Literal[1, 2]
    checked: int
    total: int
    slack: float
    what: str
    failures: tuple[Failure, ...]

    @property
    def refuted(self) -> bool:
        """Whether one record moves the result by more than was declared."""
        if self.declared is None or self.largest is None:
            return False
        return self.largest.size > self.declared + self.slack

    def __str__(self) -> str:
        of = f"{self.checked:,}" if self.checked == self.total else f"{self.checked:,} of {self.total:,}"
        lines = [f"sensitivity of {self.what}, L{self.norm}, over {of} neighbours"]
        lines.append(f"  largest change: {self.largest}" if self.largest is not None else "  no neighbour has a result")
        if self.declared is not None:
            verdict = "REFUTED: it is too small" if self.refuted else "not refuted (which is no proof)"
            lines.append(f"  declared: {self.declared:g}, {verdict}")
        if self.failures:
            first = self.failures[0]
            lines.append(
                f"  {len(self.failures):,} neighbours failed, the first at record {first.record} of {first.node_id} "
                f"({first.error}): that a run fails can give a record away"
            )
        return "\n".join(lines)


def check_sensitivity(
    data_splits: Sequence[Any],
    analyzer: type[StarAnalyzer],
    aggregator: type[StarAggregator],
    data_type: Literal["fhir", "s3"],
    query: str | list[str] | None = None,
    simple_analysis: bool = True,
    *,
    sensitivity: float | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    privacy: Privacy | None = None,
    candidates: Sequence[Any] | None = None,
    sample: int | None = 10_000,
    sample_seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    multiple_results: bool = False,
    engine: Any = "serial",
    **arguments: Any,
) -> SensitivityCheck:
    """Run an analysis on neighbouring data and find the record that moves its result furthest.

    Arguments:
        data_splits, analyzer, ..., arguments: as StarModelTester takes them. Nothing is printed, no file is written
            and no noise is drawn into what is compared. A record is an element of a list, a row of an array, of a
            table or of a CSV file, or all entries of one patient.
        sensitivity: what to put to the test; or in `privacy`, whose `noise_at` says what is looked at: the final
            result (of `multiple_results` each element on its own), the first aggregate, or the first contributions,
            which are clipped where `clip` is given. `epsilon` is not needed, and changes nothing.
        delta: measure in the L2 norm, as for Gaussian noise, and not in L1.
        candidates: records to put in the place of each record. None: each record is left out.
        sample: the most neighbours to run (None: all). More are sampled evenly, by `sample_seed`.
        progress: called as `progress(done, total)` after each neighbour.
        engine: where the nodes run; "serial" starts no thread, and is by far the fastest for a small analysis.

    Raises ConfigurationError where a split cannot be taken apart, or the analysis gives another result each time
    (`seed=` seeds what is random in it); PrivacyError where noise cannot be added to its result; and what the run on
    the whole data raises.
    """
    plan = _privacy(sensitivity, delta, privacy)
    config = configure(
        data_splits, analyzer, aggregator, data_type, query, simple_analysis, engine=engine, privacy=plan, **arguments
    )
    _check_count("sample", sample)
    if candidates is not None and (not isinstance(candidates, list | tuple) or not candidates):
        raise ConfigurationError("candidates are given that are no list with at least one record: one is wanted")
    where = "final" if plan is None else plan.noise_at
    neighbours = _Neighbours(config, candidates)
    total = len(neighbours)
    if not total:
        raise ConfigurationError("no split holds a record, so there is no neighbour: data with records is wanted")
    norm: Literal[1, 2] = 1 if delta is None and (plan is None or plan.delta is None) else 2
    study = _Study.of(config, where, norm, multiple_results)
    chosen: Sequence[int] = range(total)
    if sample is not None and total > sample:
        chosen = sorted(random.Random(sample_seed).sample(chosen, sample))
    largest: Change | None = None
    failures = []
    for done, (node_id, record, candidate, changed) in enumerate(neighbours.at(chosen), 1):
        try:
            change = Change(node_id, record, candidate, study.distance(changed))
        except (NodeError, NotConvergedError, PrivacyError) as error:
            cause = error.__cause__ or error
            failures.append(Failure(node_id, record, candidate, type(cause).__name__))
        else:
            if largest is None or change.size > largest.size:
                largest = change
        if progress is not None:
            progress(done, len(chosen))
    declared = None if plan is None else float(plan.sensitivity)
    return SensitivityCheck(
        largest=largest,
        declared=declared,
        norm=study.norm,
        checked=len(chosen),
        total=total,
        slack=study.slack + 1e-9 * (declared or 0.0),
        what=_WHAT[where],
        failures=tuple(failures),
    )


class _Gathered(StarAggregator):
    """Gives the contributions as they came."""

    def aggregation_method(self, analysis_results: list[Any]) -> Any:
        return list(analysis_results)


class _Study:
    """The analysis on the whole data, and how far its result is from that on other data."""

    def __init__(self, config: RunConfig, norm: Literal[1, 2], apart: bool) -> None:
        import numpy as np

        self.norm: Literal[1, 2] = norm
        self._config = config
        self._apart = apart
        self._base = self._parts(config.data_splits)
        again = self._parts(config.data_splits)
        if self._farthest(again) > 0:
            raise ConfigurationError(
                "the analysis gives another result on the same data, so changes cannot be put down to a record: "
                "seed=a whole number seeds the global generators of random and NumPy"
            )
        # Sums in another order differ by a few roundings of the largest numbers in them.
        self.slack = 16 * float(np.finfo(float).eps) * max(float(np.abs(numbers).sum()) for _, numbers in self._base)

    @classmethod
    def of(cls, config: RunConfig, where: str, norm: Literal[1, 2], multiple_results: bool) -> _Study:
        exact = without_noise(config)
        if where != "final":
            exact = replace(exact, simple_analysis=True)
        if where == "analyzer":
            exact = replace(exact, aggregator=_Gathered, aggregator_kwargs={})
        return cls(exact, norm, multiple_results and where == "final")

    def distance(self, data_splits: list[Any]) -> float:
        """How far the result on other data is from that on the whole."""
        return self._farthest(self._parts(data_splits))

    def _farthest(self, parts: list[_Part]) -> float:
        import numpy as np

        if len(parts) != len(self._base):
            return math.inf
        farthest = 0.0
        for (skeleton, numbers), (other, others) in zip(self._base, parts, strict=True):
            if skeleton != other:
                return math.inf
            farthest = max(farthest, float(np.linalg.norm(numbers - others, self.norm)))
        return farthest

    def _parts(self, data_splits: Sequence[Any]) -> list[_Part]:
        result, _ = exact_result(replace(self._config, data_splits=data_splits))
        apart = self._apart and isinstance(result, list | tuple)
        return [_flat(flatten(element, root="result")) for element in (result if apart else [result])]


if TYPE_CHECKING:
    _Part = tuple[Any, NDArray[np.float64]]


def _flat(flat: Flat) -> _Part:
    import numpy as np

    return flat.skeleton, np.concatenate([flat.floats, flat.ints.astype(np.float64)])


class _Neighbours:
    """Every data set that one change of one record makes, numbered over all nodes."""

    def __init__(self, config: RunConfig, candidates: Sequence[Any] | None) -> None:
        self._splits = list(config.data_splits)
        self._candidates = candidates
        self._places: list[tuple[str, int, Records, int]] = []
        start = 0
        for node in config.nodes:
            if node.split is not None:
                records = take_apart(self._splits[node.split], f"data_splits[{node.split}]")
                self._places.append((node.id, node.split, records, start))
                start += len(records) * self._each
        self._total = start

    def __len__(self) -> int:
        return self._total

    @property
    def _each(self) -> int:
        return 1 if self._candidates is None else len(self._candidates)

    def at(self, chosen: Sequence[int]) -> Iterator[tuple[str, int, int | None, list[Any]]]:
        """Node, record, candidate and splits of the chosen ones, which are in ascending order."""
        place = 0
        for number in chosen:
            while place + 1 < len(self._places) and number >= self._places[place + 1][3]:
                place += 1
            node_id, split, records, start = self._places[place]
            record, which = divmod(number - start, self._each)
            splits = self._splits.copy()
            if self._candidates is None:
                splits[split] = records.without(record)
                yield node_id, record, None, splits
            else:
                splits[split] = records.replaced(record, self._candidates[which])
                yield node_id, record, which, splits


def _privacy(sensitivity: float | None, delta: float | None, privacy: Privacy | None) -> Privacy | None:
    if privacy is not None:
        if sensitivity is not None or delta is not None:
            raise ConfigurationError(
                "privacy=Privacy(...) and sensitivity or delta are both given: they say the same, give one of them"
            )
        return privacy
    if sensitivity is None:
        if delta is not None and not (is_number(delta) and 0 < delta < 1):
            raise ConfigurationError(f"delta={delta!r} is given, a probability between 0 and 1 is wanted, e.g. 1e-6")
        return None
    return Privacy(epsilon=1.0, sensitivity=sensitivity, delta=delta)


def _check_count(name: str, given: object) -> None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise ConfigurationError(f"{name}={given!r} is given, a whole number from 1, or None for all, is wanted")
