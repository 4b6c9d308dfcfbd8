"""What looks at one node's calls, and at what leaves it, in the first rounds of a run; and what its nodes share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..findings import Finding, FindingKind
from ..isolation import ATOMIC
from .disclosure import Disclosed, Numbers, compared, disclosed, equal_to_one, numbers_of
from .generators import States, drawn, seeds_itself, states
from .order import Permuted, difference, permuted
from .plan import LOOKED_AT, CheckPlan
from .rows import Rows, rows_of, single
from .shared import SharedState, Snapshot
from .walk import Pieces, fingerprint, named, nan_in, parts

if TYPE_CHECKING:
    from ..engines.seats import Seat

__all__ = ["Lookout", "NodeChecks"]

ROUNDS = 2
"""In so many rounds nodes are looked at: what an analysis does, it does in the first ones. Later ones cost nothing."""
_WATCHED = 16
"""Among so many nodes state is watched; they run the same code."""
_DRAWERS = 4
"""And for so many nodes the states of the global generators are compared, which takes about 30 microseconds a call."""
_COMPARED = 256
_SCRIPTS = ("__main__", "__mp_main__")


class Lookout:
    """The checks of the nodes of one process. `find` takes findings, `warn` a text; from any thread."""

    def __init__(
        self, plan: CheckPlan, classes: list[type], find: Callable[[Finding], object], warn: Callable[[str], object]
    ) -> None:
        self.plan = plan
        self.find = find
        self.warn = warn
        self._lock = threading.Lock()
        self._said: set[str] = set()
        self._sources = {cls: seeds_itself(cls) for cls in classes} if not plan.seeded else {}
        self.shared = SharedState(classes, self._shared)

    def warn_once(self, kind: str, text: str) -> None:
        """Warn of the first node of many that may have the same."""
        with self._lock:
            new = kind not in self._said
            self._said.add(kind)
        if new:
            self.warn(text)

    def of(self, seat: Seat) -> NodeChecks:
        """The checks of one node."""
        return NodeChecks(seat, self)

    def seeds_itself(self, cls: type) -> bool:
        """Whether a class's own code seeds the generators that it draws from."""
        return self._sources.get(cls, False)

    def _shared(self, name: str, node_ids: list[str]) -> None:
        self.find(
            Finding(
                "shared-state",
                f"{name} is changed by {node_ids[0]} and by {node_ids[1]}: nodes of one process share it, and on FLAME "
                "every node has its own",
                "keep a node's state on self, and send what the others need to know",
                node_ids[1],
                None,
                name,
            )
        )


class NodeChecks:
    """The checks of one node. `begin` and `end` stand around a call of its methods, `left` sees what leaves it.

    It takes itself off its seat once the first rounds are over.
    """

    __slots__ = ("_before", "_lookout", "_order", "_permute", "_previous", "_rows", "_seat", "_states", "_watched")

    def __init__(self, seat: Seat, lookout: Lookout) -> None:
        self._seat = seat
        self._lookout = lookout
        self._before: Snapshot | None = None
        self._states: States | None = None
        self._order: Permuted | None = None
        self._permute = lookout.plan.permute and seat.role == "aggregator"
        self._previous: Numbers | None = None
        self._rows: Rows | None = None
        self._watched = seat.role == "aggregator" or seat.position < _WATCHED

    def begin(self, round: int | None, contributions: list[Any] | None = None) -> None:
        """A call of the node's code is about to begin; `contributions` where it aggregates."""
        seat, plan = self._seat, self._lookout.plan
        if contributions is not None and self._permute:
            order = permuted(seat.node, contributions)
            if isinstance(order, str):
                self._cannot_permute(order)
            else:
                self._order = order
        if round is not None and round >= ROUNDS:
            self._watched = False
            if not self._permute:
                seat.checks = None
            return
        if self._watched:
            self._before = self._lookout.shared.look()
            if not plan.seeded and (seat.role == "aggregator" or seat.position < _DRAWERS):
                self._states = states()

    def end(self) -> None:
        """The call is done."""
        states_before, self._states = self._states, None
        if states_before is not None:
            self._compare_states(states_before)
        before, self._before = self._before, None
        if before is not None:
            self._lookout.shared.changed(self._seat.node_id, before)

    def left(self, payload: Any, root: str = "contribution") -> None:
        """`payload` leaves this node: as its contribution, or as what it sends to a peer."""
        seat = self._seat
        if seat.round is not None and seat.round >= ROUNDS:
            return
        kind = type(payload)
        if root == "contribution" and seat.round == 0 and seat.position < LOOKED_AT:
            self._guarded(self._look_for_one)
        if root == "contribution":
            self._guarded(lambda: self._look_for_nothing(payload, "analysis_method"))
        if seat.position >= LOOKED_AT or (kind in ATOMIC and kind not in (int, str)):
            return
        self._guarded(lambda: self._look_at(payload, root))

    def aggregated(self, contributions: list[Any], result: Any) -> None:
        """The aggregator has made `result` of `contributions`, which it may have changed."""
        order, self._order = self._order, None
        if order is not None:
            self._compare_orders(order, result)
        if self._seat.round is not None and self._seat.round < ROUNDS:
            self._guarded(lambda: self._look_for_nothing(result, "aggregation_method"))
            self._guarded(lambda: self._compare_with_contributions(contributions, result))

    # What is looked at

    def _look_at(self, payload: Any, root: str) -> None:
        seat, plan = self._seat, self._lookout.plan
        pieces = list(parts(payload))
        self._look_for_script(pieces, root)
        if (plan.noised and root == "contribution") or seat.role == "aggregator":
            return
        found = disclosed(pieces, root, self._read_rows, plan.min_cell, seat.round)
        if root == "contribution" and seat.round is not None:
            numbers = numbers_of(pieces)
            if self._previous is not None:
                found += compared(self._previous, numbers, root, self._read_rows, plan.min_cell)
            self._previous = numbers
        for one in found:
            self._disclosed(one)

    def _look_for_nothing(self, value: Any, method: str) -> None:
        seat, plan = self._seat, self._lookout.plan
        where = f"{seat.node_id}: {seat.cls.__name__}.{method}"
        if value is None:
            self._lookout.warn_once(
                f"None {method}", f"{where} returned None in round {seat.round}: is its return missing?"
            )
        elif plan.exact and seat.position < LOOKED_AT:
            path = nan_in([((), value)] if type(value) in ATOMIC else list(parts(value)))
            if path is not None:
                self._lookout.warn_once(
                    f"NaN {method}",
                    f"{where} returned NaN in round {seat.round} ({named('result', path)}): look for missing values in "
                    "the data, for a division by zero, or for a logarithm of nothing",
                )

    def _look_for_one(self) -> None:
        whom = None if self._seat.role == "aggregator" else single(self._seat.data)
        if whom == "row" and len(self._lookout.plan.analyzers) == 1:
            return  # a try-out on a line of data; a patient is one wherever there is one
        if whom is not None:
            message = f"this node holds the data of one {whom}: whatever it sends is about that one {whom}"
            advice = "leave such a node out, or merge its data with another's before they are analysed"
            self._disclosed(Disclosed(message, advice, "data"))

    def _look_for_script(self, pieces: Pieces, root: str) -> None:
        for path, part in pieces:
            home = part if isinstance(part, type | FunctionType) else type(part)
            if home.__module__ in _SCRIPTS:
                self._find(
                    "class-in-script",
                    f"{home.__qualname__} lives in the script itself: it can be unpickled only where that "
                    "very script runs",
                    "move the class to a module that is installed at every node, or send plain values and arrays",
                    named(root, path),
                )
                return

    def _compare_states(self, before: States) -> None:
        seat = self._seat
        names = drawn(before, states())
        if names and not self._lookout.seeds_itself(seat.cls):
            waited = seat.waited > 0
            generators = " and ".join(names)
            self._lookout.find(
                Finding(
                    "unseeded-random",
                    f"{generators}'s global generator is drawn from without a seed: no two runs give the same result",
                    "give the run seed=..., or make a generator of your own on self: "
                    + ("random.Random(seed)" if names == ["random"] else "numpy.random.default_rng(seed)"),
                    # While it waited others ran, and it may have been one of them.
                    None if waited else seat.node_id,
                    seat.round,
                )
            )

    def _compare_orders(self, order: Permuted, result: Any) -> None:
        try:
            apart = difference(result, order.aggregate())
        except Exception as error:  # whatever aggregating contributions in another order raises
            # Its text is left out: it may hold a value.
            self._cannot_permute(type(error).__name__)
            return
        if apart is None or apart > 0:
            self._permute = False
            if apart is None:
                how = "it is another one altogether"
            elif self._lookout.plan.exact:
                how = f"its numbers change by up to {apart:.2g} of their size"
            else:
                how = "its numbers change"
            self._find(
                "order-dependent",
                f"the aggregate depends on the order of the contributions: reversed, {how}",
                "treat contributions alike, whoever sent them; FLAME's own star promises no order",
                "aggregate",
            )

    def _cannot_permute(self, why: str) -> None:
        self._permute = False
        self._lookout.warn(
            f"Checks(permute=True): {self._seat.cls.__name__} could not be asked to aggregate its contributions in "
            f"another order ({why}): its instance and the contributions are copied for that"
        )

    def _compare_with_contributions(self, contributions: list[Any], result: Any) -> None:
        plan = self._lookout.plan
        if type(result) not in ATOMIC:
            self._look_for_script(list(parts(result)), "aggregate")
        if not plan.returns or plan.noised:
            return
        few = contributions if type(result) in ATOMIC else contributions[:_COMPARED]
        position = equal_to_one(result, few, _same)
        if position is not None:
            self._lookout.find(
                Finding(
                    "disclosure",
                    "the aggregate equals what this node alone sent: everybody who gets it learns one node's value",
                    "combine the contributions of all nodes (sums, means); smallest and largest values single one out",
                    plan.analyzers[position],
                    self._seat.round,
                    "aggregate",
                )
            )
        elif (
            type(result) in (list, tuple) and len(result) == len(contributions) > 1 and _all_same(result, contributions)
        ):
            message = "the aggregate holds what each node sent, node by node: nothing is combined"
            advice = "combine the contributions of all nodes before they go on"
            self._disclosed(Disclosed(message, advice, "aggregate"))

    def _read_rows(self) -> Rows:
        if self._rows is None:
            self._rows = rows_of(self._seat.data)
        return self._rows

    def _guarded(self, look: Callable[[], None]) -> None:
        try:
            look()
        except Exception as error:  # a payload of a kind that a check is not made for must not end the run
            self._lookout.warn(
                f"a check could not look at what {self._seat.node_id} sends ({type(error).__name__}): it was left out"
            )

    def _disclosed(self, one: Disclosed) -> None:
        self._find("disclosure", one.message, one.advice, one.path)

    def _find(self, kind: FindingKind, message: str, advice: str, path: str | None = None) -> None:
        self._lookout.find(Finding(kind, message, advice, self._seat.node_id, self._seat.round, path))


def _all_same(result: Any, contributions: list[Any]) -> bool:
    return all(one is other for one, other in zip(result, contributions, strict=True))


def _same(one: Any, other: Any) -> bool:
    return fingerprint(one) == fingerprint(other) if type(one) not in ATOMIC else bool(one == other)
