"""The link: one node's letters to and from its partners, over FLAME's messages.

FLAME's messages may be lost, late or repeated, and its waits poll once a second. The link reads what has arrived every
few milliseconds, writes again to partners that stay silent, notices those that are gone, and hears of failures while
the node's own code runs. The SDK acknowledges every message from a thread of its own, whatever the node's code does:
that is how a partner that computes for hours is told from one that is dead.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from ..errors import NodeError
from .letters import CATEGORY, Failure, Kind, Letter, body_of, letter_of
from .peers import SHORTEST_POLL, pause_after
from .sdk import is_transient, node_status
from .threads import in_thread

__all__ = ["Link", "PartnerFailed", "Vigil", "failure_of"]

T = TypeVar("T")

FIRST_REMINDER = 2.0
LONGEST_PAUSE = 15.0
ENOUGH_UNANSWERED = 3
UPLOADS_AT_ONCE = 8
SWEEP_AFTER = 1.0
KEPT_ACKNOWLEDGEMENTS = 1024


class PartnerFailed(NodeError):
    """Another node ended the run; `node_id`, `role` and `round` are that node's. Its own log says why.

    `told_by` is the node that said so, None where this node found out by itself.
    """

    told_by: str | None = None


class Vigil:
    """A wait for partners: when it began, and when those that stay silent are written to again."""

    def __init__(self, shortest: float, longest: float, limit: float | None) -> None:
        self.began = time.monotonic()
        self.due = self.began + shortest
        self.end = None if limit is None else self.began + limit
        self._shortest = shortest
        self._longest = longest

    @property
    def next_look(self) -> float:
        """When something is to be done next: a reminder, or the end of patience."""
        return self.due if self.end is None else min(self.due, self.end)

    def postpone(self) -> None:
        """Set the next reminder, the later the longer the wait has been."""
        now = time.monotonic()
        self.due = now + min(max((now - self.began) / 4, self._shortest), self._longest)


class Link:
    """Carries one node's letters; it lives on the node's event loop.

    `partners` maps the other participants to their roles, in the platform's order. `node_timeout` is how many seconds
    a partner may leave everything unanswered, `round_timeout` how many a round may last. `finished` says that the
    platform has ended the run, `failure` that a partner has; once `over` is set, neither counts.
    """

    def __init__(self, sdk: Any, *, node_timeout: float | None, round_timeout: float | None) -> None:
        self.sdk = sdk
        self.node_id: str = sdk.get_id()
        self.role: str = sdk.get_role()
        self.partners: dict[str, str] = {p["nodeId"]: p["nodeType"] for p in sdk.get_participants()}
        self.failure: NodeError | None = None
        self.finished = False
        self.over = False
        self.failed = False
        self._life = uuid.uuid4().hex[:8]
        self._node_timeout = node_timeout
        self._round_timeout = round_timeout
        self._often = LONGEST_PAUSE if node_timeout is None else min(LONGEST_PAUSE, node_timeout / 4)
        self._letters: deque[tuple[str, Letter]] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._heard: dict[str, float] = {}
        self._unanswered: Counter[str] = Counter()
        self._last_post: dict[str, str] = {}
        self._lives: dict[str, str] = {}
        self._in_the_run: set[str] = set()
        self._acknowledged: OrderedDict[str, set[str]] = OrderedDict()
        self._handled: dict[tuple[str, str, str], float] = {}
        self._own_code_runs = 0
        self._sending = asyncio.Lock()
        self._uploads = asyncio.Semaphore(UPLOADS_AT_ONCE)

    def letter(self, kind: Kind, round: int, **more: Any) -> Letter:
        """A letter from this node."""
        return Letter(kind, round, self._life, **more)

    def vigil(self) -> Vigil:
        """A wait that begins now, with reminders frequent enough for `node_timeout`."""
        limit = self._round_timeout
        if limit is not None and self.role != "aggregator":
            limit *= 2  # the aggregator, which sees who is late, comes first
        return Vigil(min(FIRST_REMINDER, self._often), self._often, limit)

    @contextmanager
    def own_code(self) -> Iterator[None]:
        """While the node's own code runs, no message is removed: the SDK's waits count those that there are."""
        self._own_code_runs += 1
        try:
            yield
        finally:
            self._own_code_runs -= 1

    async def watch(self) -> NoReturn:
        """Read what arrives, for as long as the node runs; raises where a partner or the platform has ended the run."""
        quiet_since = time.monotonic()
        while True:
            if self.collect():
                quiet_since = time.monotonic()
            if not self.over:
                if self.failure is not None:
                    raise self.failure
                self._heed_platform()
            await asyncio.sleep(pause_after(time.monotonic() - quiet_since))

    def collect(self) -> bool:
        """Read what has arrived; True where there was something."""
        taken = 0
        for message in self.sdk.get_messages("unread"):
            taken += self._take(message)
        for message in self.sdk.get_messages("read"):  # an acknowledgement has the status that its message had there
            if message.body["meta"]["sender"] == self.node_id:
                taken += self._take(message)
        if taken and self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        if self._handled and not self._own_code_runs:
            self._sweep()
        return bool(taken)

    def take(self) -> Iterator[tuple[str, Letter]]:
        """The letters that have arrived, with their senders, oldest first."""
        while self._letters:
            yield self._letters.popleft()

    async def wait(
        self,
        others: Collection[asyncio.Future[Any]],
        vigil: Vigil,
        silent: Callable[[], list[str]],
        remind: Callable[[list[str]], Awaitable[None]],
    ) -> None:
        """Wait for a letter, the end of the run, or one of `others`; meanwhile `remind` partners that are `silent`.

        Raises NodeError where a silent partner answers nothing any more, or the round has lasted too long.
        """
        while not (self._letters or self.finished or any(other.done() for other in others)):
            self._arrival = asyncio.get_running_loop().create_future()
            pause = max(0.0, vigil.next_look - time.monotonic())
            await asyncio.wait({self._arrival, *others}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if time.monotonic() >= vigil.next_look:
                missing = silent()
                self._refuse_to_wait(missing, vigil)
                if due := [node_id for node_id in missing if self._is_due(node_id)]:
                    await remind(due)
                vigil.postpone()

    async def meet(self, partners: Iterable[str], say: Callable[[str], Awaitable[None]]) -> None:
        """Wait until every one of `partners` has been heard; they may start hours later."""
        pause, patience, began = 0.5, 30.0, time.monotonic()
        while missing := [p for p in partners if p not in self._heard]:
            await self.post(self.letter("hello", -1), missing)
            self._arrival = asyncio.get_running_loop().create_future()
            deadline = time.monotonic() + pause
            while any(p not in self._heard for p in missing) and (left := deadline - time.monotonic()) > 0:
                self._arrival = asyncio.get_running_loop().create_future()
                await asyncio.wait({self._arrival}, timeout=left)
            pause = min(1.5 * pause, 5.0)
            if time.monotonic() - began > patience:
                await say(f"Still no contact with {', '.join(p for p in missing if p not in self._heard)}")
                patience *= 2

    async def post(self, letter: Letter, receivers: Collection[str], *, patience: float = 60.0) -> str | None:
        """Send a letter without waiting for acknowledgements; gives the message's id.

        A message service that is away is tried again for `patience` seconds.
        """

        def send() -> tuple[str | None, list[str]]:
            body = body_of(letter)
            acknowledged, _ = self.sdk.send_message(list(receivers), CATEGORY[letter.kind], body, timeout=0)
            meta = body.get("meta")
            if not isinstance(meta, dict):
                return None, list(acknowledged)
            meta["status"] = "read"  # the SDK keeps what it has sent until it is read, which nobody does
            return str(meta["id"]), list(acknowledged)

        async with self._sending:
            message_id, acknowledged = await _patiently(send, patience)
        self._unanswered.update(receivers)
        self._last_post.update(dict.fromkeys(receivers, message_id or ""))
        for node_id in acknowledged:  # at once, so the SDK has removed the acknowledgement
            self._acknowledge(message_id or "", node_id)
        return message_id

    async def deliver(
        self, letter: Letter, receivers: Iterable[str], within: float, *, without: str | None = None
    ) -> set[str]:
        """Send a letter, again and again, for `within` seconds; gives those who have not acknowledged it.

        `without` is sent it as well, and not waited for.
        """
        pending, sent = set(receivers), set[str]()
        give_up = time.monotonic() + within
        due, pause = 0.0, 1.0
        while pending and time.monotonic() < give_up:
            if time.monotonic() >= due:
                try:
                    message_id = await self.post(letter, pending, patience=0.0)
                except Exception as error:
                    if not is_transient(error):
                        raise
                else:
                    sent.add(message_id or "")
                due, pause = time.monotonic() + pause, 1.5 * pause
            self.collect()
            pending = {p for p in pending if not any(p in self._acknowledged.get(m, ()) for m in sent)}
            if pending <= {without}:
                break
            await asyncio.sleep(SHORTEST_POLL)
        return pending - {without}

    async def store(self, blob: bytes, receivers: Collection[str]) -> dict[str, str]:
        """Put `blob` into FLAME's intermediate storage, once for each receiver (encrypted for it); gives the ids."""

        async def one(receiver: str) -> str:
            def save() -> str:
                saved = self.sdk.save_intermediate_data(blob, "global", remote_node_ids=[receiver])
                return str(saved[receiver]["id"])

            async with self._uploads:
                return await _patiently(save, 60.0)

        ids = await asyncio.gather(*map(one, receivers))
        return dict(zip(receivers, ids, strict=True))

    async def fetch(self, letter: Letter) -> bytes:
        """What `letter` carries for this node."""
        query = letter.stored[self.node_id]
        async with self._uploads:
            blob: bytes = await _patiently(lambda: self.sdk.get_intermediate_data("global", query=query), 60.0)
        return blob

    def enter_run(self, node_id: str) -> None:
        """From now on a new start of this partner's process is a failure: what it had computed is gone."""
        self._in_the_run.add(node_id)

    def _take(self, message: Any) -> int:
        """Read one message where it is ours and new; how many letters or acknowledgements that were."""
        letter = letter_of(message.body)
        if letter is None:
            return 0
        meta = message.body["meta"]
        key = sender, message_id, receiver = meta["sender"], meta["id"], meta["akn_id"]
        if key in self._handled:
            return 0
        self._handled[key] = time.monotonic()
        if sender == self.node_id:
            self._acknowledge(message_id, receiver)
        elif sender in self.partners:
            self._hear(sender)
            self._sort(sender, letter)
        return 1

    def _sweep(self) -> None:
        """Remove what was read some time ago. At once would be too soon: until the SDK has acknowledged a message, its
        status goes back with the acknowledgement, and one that comes back as read may be removed unseen."""
        old = time.monotonic() - SWEEP_AFTER
        if next(iter(self._handled.values())) > old:
            return
        for message in self.sdk.get_messages("unread"):
            meta = message.body["meta"]
            if self._handled.get((meta["sender"], meta["id"], meta["akn_id"]), math.inf) <= old:
                meta["status"] = "read"
        self.sdk.clear_messages("read")
        self._handled = {key: when for key, when in self._handled.items() if when > old}

    def _sort(self, sender: str, letter: Letter) -> None:
        if self._lives.get(sender, letter.life) != letter.life and sender in self._in_the_run:
            role = self.partners[sender]
            self.failure = self.failure or PartnerFailed(
                f"{sender} ({role}) has been started anew in the middle of the run, and has lost what it had computed",
                node_id=sender,
                role=role,
                round=letter.round,
            )
        self._lives[sender] = letter.life
        if letter.kind == "failed" and letter.failure is not None:
            self.failure = self.failure or _partner_failed(letter.failure, sender)
        else:
            self._letters.append((sender, letter))

    def _acknowledge(self, message_id: str, node_id: str) -> None:
        self._acknowledged.setdefault(message_id, set()).add(node_id)
        while len(self._acknowledged) > KEPT_ACKNOWLEDGEMENTS:
            self._acknowledged.popitem(last=False)
        self._hear(node_id)

    def _hear(self, node_id: str) -> None:
        self._heard[node_id] = time.monotonic()
        self._unanswered[node_id] = 0

    def _heed_platform(self) -> None:
        status = node_status(self.sdk)
        if status in ("failed", "stopped"):
            raise PartnerFailed(
                f"FLAME has marked {self.node_id} ({self.role}) as {status}: another node was {status}, or a service "
                "of this node failed; the platform's log of this node says which",
                node_id=self.node_id,
                role=self.role,
            )
        config = getattr(self.sdk, "config", None)
        if self.role != "aggregator" and (status == "executed" or getattr(config, "finished", False)):
            # The platform says so itself where the aggregator's last message is lost.
            self.finished = True
            if self._arrival is not None and not self._arrival.done():
                self._arrival.set_result(None)

    def _is_due(self, node_id: str) -> bool:
        """Whether a silent partner is to be written to: it has not got the last letter, or may have died since."""
        if node_id not in self._acknowledged.get(self._last_post.get(node_id, ""), ()):
            return True
        return time.monotonic() - self._heard[node_id] >= self._often

    def _refuse_to_wait(self, missing: list[str], vigil: Vigil) -> None:
        now = time.monotonic()
        for node_id in missing:
            silence = now - self._heard.get(node_id, now)
            unanswered = self._unanswered[node_id]
            if self._node_timeout is None or silence < self._node_timeout or unanswered < ENOUGH_UNANSWERED:
                continue
            role = self.partners[node_id]
            raise PartnerFailed(
                f"{node_id} ({role}) has vanished: it has not answered the last {unanswered} messages, for "
                f"{silence:.0f} s. Its process was killed (often for want of memory), or its node is off the network; "
                f"a node that merely computes would have answered. node_timeout={self._node_timeout:g} sets the limit",
                node_id=node_id,
                role=role,
            )
        if missing and vigil.end is not None and now >= vigil.end and self._round_timeout is not None:
            role = self.partners[missing[0]]
            raise PartnerFailed(
                f"{', '.join(missing)} ({role}) sent nothing for {now - vigil.began:.0f} s of this round, though the "
                "process answers: its own code is stuck or slow. "
                f"round_timeout={self._round_timeout:g} sets the limit",
                node_id=missing[0],
                role=role,
            )


async def _patiently(call: Callable[[], T], patience: float) -> T:
    give_up, pause = time.monotonic() + patience, 0.2
    while True:
        try:
            return await in_thread(call)
        except Exception as error:
            if not is_transient(error) or time.monotonic() + pause > give_up:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, 5.0)


def _partner_failed(failure: Failure, told_by: str) -> PartnerFailed:
    where = "in its constructor" if failure.round is None else f"in round {failure.round}"
    error = PartnerFailed(
        f"{failure.node_id} ({failure.role}) ended the run {where}: {failure.error}. Its own log says more",
        node_id=failure.node_id,
        role=failure.role,
        round=failure.round,
    )
    error.told_by = told_by
    return error


def failure_of(error: BaseException, node_id: str, role: str, round: int | None) -> Failure:
    """What the partners are told of `error`: who, where, and its type."""
    if isinstance(error, PartnerFailed):
        return Failure(error.node_id, error.role, error.round, "it has failed or vanished")
    if isinstance(error, asyncio.CancelledError):
        return Failure(node_id, role, round, "it was stopped")
    cause = error.__cause__ if isinstance(error, NodeError) and error.__cause__ is not None else error
    return Failure(node_id, role, round, type(cause).__name__)
