"""Where a run's privacy stands in the way of its data: at the analyzers, at the aggregator, or before the release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .config import NodePlan, RunConfig
from .errors import ConfigurationError
from .options import Privacy
from .release.ledger import BudgetError, Ledger, PrivacyAccount
from .release.pipeline import Draft, Stage
from .release.privacy import PrivacyStage

__all__ = ["Placement", "unplanned_stage"]


class Placement:
    """The privacy of one run. Raises ConfigurationError where its parameters cannot be had, before anything runs."""

    def __init__(
        self, config: RunConfig, stop: Callable[[], bool], progress: Callable[[int, int], None] | None = None
    ) -> None:
        assert config.privacy is not None
        self._privacy: Privacy = config.privacy
        self._stop = stop
        self.ledger = Ledger(
            config.privacy,
            iterative=not config.simple_analysis,
            exact_convergence=config.privacy.noise_at == "final",
        )
        self._stage = PrivacyStage(
            config.privacy,
            ledger=self.ledger,
            stop=stop,
            progress=progress,
        )
        (self._aggregator,) = (node.id for node in config.nodes if node.role == "aggregator")

    def guard_of(self, node: NodePlan) -> Callable[[int, Any], Any] | None:
        """What stands between a node's result and its way out; None: nothing."""
        stage, where = self._stage, self._privacy.noise_at
        if node.role == "aggregator":
            return (lambda round, value: stage.release(value, round, node.id)) if where == "broadcast" else None
        if where == "analyzer":
            return lambda round, value: stage.release(stage.clip(value), round, node.id)
        if self._privacy.clip is not None:
            return lambda round, value: stage.clip(value)
        return None

    def computes_exact(self, node: NodePlan) -> bool:
        """Whether this node computes exact values that the noise protects, so that its errors' texts may hold them."""
        if self._privacy.keep_exact:
            return False
        return self._privacy.noise_at != "analyzer" or node.role == "default"

    @property
    def final_stage(self) -> Stage | None:
        """The pipeline's stage; None where what is released was noised before, and is never charged again."""
        return self._noise_final if self._privacy.noise_at == "final" else None

    def early_stage(self, local_dp: dict[str, float] | None) -> Stage | None:
        """The stage for a result that the aggregator submits by itself, with the epsilon and sensitivity it gives."""
        if local_dp is not None:
            own = _options(local_dp)
            if own.epsilon > self._privacy.epsilon:
                raise ConfigurationError(
                    f"local_dp with epsilon={own.epsilon:g} is given in a run with epsilon={self._privacy.epsilon:g}: "
                    "the run's own epsilon is the most that one release may cost, give no more than that, or leave "
                    "local_dp out"
                )
            if own.sensitivity < self._privacy.sensitivity:
                self.ledger.note(f"sensitivity={own.sensitivity:g} of what the aggregator submits is taken on trust")
            return _stage_of(own, self.ledger, self._aggregator, self._stop)
        # An aggregator that sees exact contributions may submit exact values of any kind.
        return None if self._privacy.noise_at == "analyzer" else self._noise_final

    def sent_exact(self) -> None:
        """An aggregate is on its way to the analyzers."""
        if self._privacy.noise_at == "final":
            self.ledger.broadcast_exact()

    @staticmethod
    def spent(error: BaseException) -> bool:
        """Whether `error` says that the budget is spent."""
        return isinstance(error, BudgetError)

    def _noise_final(self, draft: Draft) -> None:
        draft.value = self._stage.release(draft.value, draft.round, self._aggregator, several=draft.several)


def unplanned_stage(
    local_dp: dict[str, float], node_id: str, stop: Callable[[], bool]
) -> tuple[Stage, Callable[[], PrivacyAccount]]:
    """The stage for `submit_final_result(..., local_dp=...)` in a run without privacy of its own, and its account."""
    privacy = _options(local_dp)
    ledger = Ledger(privacy)
    ledger.note("everything else in this run: it has no privacy of its own, so aggregates and other results are exact")
    return _stage_of(privacy, ledger, node_id, stop), ledger.account


def _stage_of(privacy: Privacy, ledger: Ledger, node_id: str, stop: Callable[[], bool]) -> Stage:
    stage = PrivacyStage(privacy, ledger=ledger, stop=stop)

    def noise(draft: Draft) -> None:
        draft.value = stage.release(draft.value, draft.round, node_id, several=draft.several)

    return noise


def _options(local_dp: dict[str, float]) -> Privacy:
    if not isinstance(local_dp, dict) or set(local_dp) != {"epsilon", "sensitivity"}:
        raise ConfigurationError(f"local_dp={local_dp!r} is given, {{'epsilon': ..., 'sensitivity': ...}} is wanted")
    return Privacy(epsilon=local_dp["epsilon"], sensitivity=local_dp["sensitivity"])
