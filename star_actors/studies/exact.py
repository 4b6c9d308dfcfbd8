"""The result of an analysis before any noise: what the studies of noise and of pooling look at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from star_actors.config import RunConfig
from star_actors.errors import ConfigurationError
from star_actors.report import Report

from .quiet import run_config

__all__ = ["check_may_be_exact", "exact_result", "without_noise"]


def check_may_be_exact(config: RunConfig, study: str) -> None:
    """Raise ConfigurationError where privacy is asked for, and the run is not marked as a rehearsal."""
    if config.privacy is not None and not config.privacy.keep_exact:
        raise ConfigurationError(
            f"{study} shows exact results, and privacy is given: leave epsilon, sensitivity and privacy out, or mark "
            "the study as a rehearsal with Privacy(..., keep_exact=True)"
        )


def without_noise(config: RunConfig, *, clip: bool = True) -> RunConfig:
    """The same run with neither noise nor budget, which writes no file; contributions stay clipped where `clip`."""
    privacy = config.privacy
    if privacy is not None:
        # Clipping is a part of privacy, so such a run draws noise as well; `exact_result` reads what comes before it.
        clipped = replace(privacy, noise_at="final", budget=None, keep_exact=True)
        privacy = clipped if clip and privacy.clip is not None else None
    return replace(config, privacy=privacy, output_type="str", multiple_results=False, paths=None)


def exact_result(config: RunConfig) -> tuple[Any, Report]:
    """What a config made by `without_noise` ends with, and the report of that run."""
    report = run_config(config)
    exact = report.result if config.privacy is None else report.rounds[-1].aggregate
    return exact, report
