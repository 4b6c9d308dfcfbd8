"""The privacy stage: what leaves through it carries noise that is paid for, or does not leave."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from star_actors.errors import PrivacyError

from .ledger import Ledger
from .noise import Mechanism, Progress, Stop, clip_to_norm, mechanism_for

if TYPE_CHECKING:
    from star_actors.options import Privacy

__all__ = ["PrivacyStage", "flame_can_noise"]


class PrivacyStage:
    """Adds noise to what is released: the final result, each aggregate, or each contribution.

    It fails closed: `release` returns a noised value whose cost is in the ledger, or raises PrivacyError. No error
    that leaves it, and no cause or context of one, names a value.

    `progress(done, total)` is called as numbers are drawn, `stop()` is asked in between: True ends it in a
    PrivacyError. A million numbers take half a minute and more, mostly without the interpreter's lock, so call it on a
    worker thread. Raises ConfigurationError where `privacy` cannot be had, before anything runs.
    """

    mechanism: Mechanism
    ledger: Ledger

    def __init__(
        self,
        privacy: Privacy,
        *,
        ledger: Ledger | None = None,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.mechanism = mechanism_for(privacy)
        self.ledger = Ledger(privacy) if ledger is None else ledger
        self._privacy = privacy
        self._progress = progress
        self._stop = stop

    def release(self, value: Any, round: int, node_id: str, *, several: bool = False) -> Any:
        """`value` with noise, charged to `node_id` in `round` before a number is drawn.

        With `several`, each element of a list or tuple is a result: one draw and one charge, as on FLAME.
        Raises PrivacyError where something in `value` cannot be noised (nothing is charged then), BudgetError where
        the budget does not cover it.
        """
        return _closed("noise could not be added", self._release, value, round, node_id, several)

    __call__ = release

    def clip(self, contribution: Any) -> Any:
        """`contribution` within the norm that `Privacy(clip=...)` states (L1, or L2 with `delta`), else as it is."""
        if self._privacy.clip is None:
            return contribution
        return _closed("a contribution could not be clipped", self._clip, contribution)

    def _release(self, value: Any, round: int, node_id: str, several: bool) -> Any:
        kind = type(value)
        apart = several and issubclass(kind, list | tuple)
        # The elements as they are stored: an __iter__ of the value's own class would see them, and could tell.
        elements = (tuple if issubclass(kind, tuple) else list).__iter__(value) if apart else [value]
        parts = [
            self.mechanism.take_apart(element, root=f"result[{i}]" if apart else "result")
            for i, element in enumerate(elements)
        ]
        self.ledger.charge(round, node_id, self.mechanism, times=len(parts))
        total, done = sum(part.size for part in parts), 0
        noised = []
        for part in parts:
            noised.append(self.mechanism.draw(part, progress=self._shifted(done, total), stop=self._stop))
            done += part.size
        if not apart:
            return noised[0]
        return tuple(noised) if issubclass(kind, tuple) else noised

    def _clip(self, contribution: Any) -> Any:
        p: Literal[1, 2] = 1 if self._privacy.delta is None else 2
        norm = float(self._privacy.clip or 0)
        return clip_to_norm(contribution, norm, p, integers=self._privacy.integers, root="contribution")

    def _shifted(self, done: int, total: int) -> Progress | None:
        report = self._progress
        if report is None:
            return None
        return lambda now, _: report(done + now, total)


def flame_can_noise(value: Any) -> TypeGuard[int | float]:
    """Whether FLAME's own result service could noise `value`: it takes one finite int or float, and nothing else."""
    largest = sys.float_info.max  # an int may be beyond it
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(-largest <= value <= largest)


def _closed(failed: str, step: Any, *args: Any) -> Any:
    """Run `step`; whatever it raises leaves as a PrivacyError without a value in it, in its cause or in its context."""
    try:
        return step(*args)
    except PrivacyError as error:
        refusal = error
    except Exception as error:  # anything may be in its text, so only its type is passed on
        refusal = PrivacyError(f"{failed}, as {type(error).__name__} was raised on the way; nothing was released")
    refusal.__context__ = refusal.__cause__ = None
    refusal._tells_nothing = True
    raise refusal
