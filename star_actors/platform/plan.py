"""The validated description of one node's part in a star on FLAME."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..config import RunConfig, configure
from ..errors import ConfigurationError
from ..nodes import StarAggregator, StarAnalyzer
from ..options import is_number

__all__ = ["StarPlan", "make_plan"]

_EXACT = "StarLocalDPModel without epsilon and sensitivity: the exact result will be released, without noise"


@dataclass(frozen=True, kw_only=True)
class StarPlan:
    """What a star on FLAME is told, checked: the run as the tester knows it, and what only the platform has.

    `notice` is logged when the run begins.
    """

    config: RunConfig
    filename: str | list[str] | None
    round_timeout: float | None
    node_timeout: float | None
    notice: str | None

    @property
    def local_dp(self) -> dict[str, float] | None:
        """What FLAME's result service needs to add noise; None where no privacy was asked for."""
        privacy = self.config.privacy
        if privacy is None:
            return None
        return {"epsilon": float(privacy.epsilon), "sensitivity": float(privacy.sensitivity)}


def make_plan(
    analyzer: type[StarAnalyzer],
    aggregator: type[StarAggregator],
    data_type: Literal["fhir", "s3"],
    query: str | list[str] | None,
    simple_analysis: bool,
    output_type: Any,
    multiple_results: bool,
    analyzer_kwargs: Mapping[str, Any] | None,
    aggregator_kwargs: Mapping[str, Any] | None,
    *,
    epsilon: float | None = None,
    sensitivity: float | None = None,
    noise_expected: bool = False,
    filename: str | list[str] | None,
    stream_log_level: int,
    max_iterations: int | None,
    round_timeout: float | None,
    node_timeout: float | None,
    testing: bool,
) -> StarPlan:
    """Check every argument by the tester's own rules. Raises ConfigurationError before the SDK is started."""
    if testing:
        raise ConfigurationError(
            "test_mode or test_kwargs is given, and StarModel runs on FLAME only: use StarModelTester(data_splits, "
            "...), which takes the same classes and arguments"
        )
    config = configure(
        [None],  # data comes from the node's own sources
        analyzer,
        aggregator,
        data_type,
        query,
        simple_analysis,
        output_type,
        analyzer_kwargs,
        aggregator_kwargs,
        epsilon,
        sensitivity,
        multiple_results=multiple_results,
        stream_log_level=stream_log_level,
        max_iterations=max_iterations,
    )
    names = filename if isinstance(filename, list) else [filename] if filename is not None else []
    if not all(isinstance(name, str) and name for name in names) or filename == []:
        raise ConfigurationError(
            f"filename={filename!r} is given, a str, or a list of one str for each result, is wanted"
        )
    if isinstance(filename, list) and not multiple_results:
        raise ConfigurationError(
            f"filename={filename!r}, a list, is given for one result: give a str, or multiple_results=True"
        )
    for name, value in (("round_timeout", round_timeout), ("node_timeout", node_timeout)):
        if value is not None and not (is_number(value) and value > 0):
            raise ConfigurationError(f"{name}={value!r} is given, seconds above 0, or None for no limit, are wanted")
    return StarPlan(
        config=config,
        filename=filename,
        round_timeout=round_timeout,
        node_timeout=node_timeout,
        notice=_EXACT if noise_expected and config.privacy is None else None,
    )
