"""FLAME's SDK as an analysis sees it. Each operation is written once, as a generator that yields what it waits for;
`FlameSession` blocks on it in `def` methods, `AioSession` awaits it in `async def` methods."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from ..findings import Finding
from ..isolation import Broadcast
from ..report import Log
from .board import Board, Wait
from .inbox import Inbox, Message
from .sources import Sources

if TYPE_CHECKING:
    import httpx

    from ..engines.seats import Seat
    from .storage import LocalStore

__all__ = ["LEVELS", "AioSession", "FlameSession", "Message"]

T = TypeVar("T")
Operation = Generator[Wait, Any, T]

LEVELS = {"debug": 10, "info": 20, "notice": 25, "warn": 30, "alert": 33, "emerg": 36, "error": 40, "crit": 50}
"""FLAME's log types, with their levels."""
MOCK_LEVELS = {"normal": 20, "warning": 30, "emergency": 36, "critical-error": 50}
"""Log types that only FLAME's local mock knows."""


class Config:
    """What FLAME's SDK keeps as `flame.config`."""

    def __init__(self, node_id: str, node_role: str, analysis_id: str, project_id: str) -> None:
        self.node_id = node_id
        self.node_role = node_role
        self.analysis_id = analysis_id
        self.project_id = project_id
        self.finished = False


class FlameSession:
    """`self.flame` of one node.

    Blocking calls are legal in `def` methods on any number of nodes at once: a node that waits holds no thread.
    `aio` has the same names for `async def` methods.
    """

    def __init__(
        self,
        seat: Seat,
        board: Board,
        participants: Sequence[tuple[str, str]],
        *,
        data_type: str,
        store: LocalStore,
    ) -> None:
        self._seat = seat
        self._board = board
        self._participants = participants
        self._inbox = Inbox(seat.node_id)
        self._store = store
        self._sources = Sources(seat, data_type)
        self._progress = 0
        self._unfinished_line = False
        self._last_log: Log | None = None
        self._sent = 0
        self.config = Config(seat.node_id, seat.role, "analysis_id", "project_id")
        board.register(seat.node_id, self._inbox.accept)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            self._find(
                "unknown-name",
                f"self.flame.{name} is used, which FLAME's SDK does not have",
                "use one of the SDK's names; the docs list them under self.flame",
            )
        raise AttributeError(f"FLAME's SDK has no {name!r}; self.flame answers to {', '.join(_public_names())}")

    @property
    def aio(self) -> AioSession:
        """The same operations, to be awaited. FLAME's own SDK has no such side."""
        self._find(
            "async-method",
            "self.flame.aio is used, which needs star_actors on FLAME",
            "deploy with star_actors' StarModel, or use the blocking call of the same name in a def method",
        )
        return AioSession(self)

    # Who is who

    def get_id(self) -> str:
        """This node's id."""
        return self._seat.node_id

    def get_role(self) -> Literal["default", "aggregator"]:
        """This node's role."""
        return self._seat.role

    def get_analysis_id(self) -> str:
        """The analysis's id."""
        return self.config.analysis_id

    def get_project_id(self) -> str:
        """The project's id."""
        return self.config.project_id

    def get_participants(self) -> list[dict[str, str]]:
        """Every other node, the aggregator included, with FLAME's keys and its local mock's."""
        return [
            {"nodeId": id, "nodeType": role, "id": id, "role": role}
            for id, role in self._participants
            if id != self._seat.node_id
        ]

    def get_participant_ids(self) -> list[str]:
        """The ids of every other node, the aggregator included; a fresh list."""
        return [id for id, _ in self._participants if id != self._seat.node_id]

    def get_aggregator_id(self) -> str | None:
        """The aggregator's id, its own on the aggregator."""
        return next((id for id, role in self._participants if role == "aggregator"), None)

    def ready_check(
        self, nodes: list[str] | Literal["all"] = "all", attempt_interval: float = 30, timeout: float | None = None
    ) -> dict[str, bool]:
        """Whether nodes can be reached: in a local run they can. A list that is given is emptied, as on FLAME."""
        if nodes == "all":
            return dict.fromkeys(self.get_participant_ids(), True)
        ids = self._known("nodes", nodes)
        nodes.clear()
        return dict.fromkeys(ids, True)

    def analysis_finished(self) -> bool:
        """Mark this node as done; True. The star itself ends a run."""
        self.config.finished = True
        return True

    # Logs and progress

    def flame_log(
        self,
        msg: Any = "",
        sep: str = "",
        end: str = "",
        log_type: str = "info",
        append: bool = False,
        halt_submission: bool = False,
        file: object = None,
        suppress_head: bool = False,
    ) -> None:
        """Log one line; `append` continues the last one. `file` and `suppress_head` are the mock's, and do nothing.

        On FLAME `log_type='error'` and unknown types stop the node: a finding here.
        """
        if log_type in ("error", "critical-error") or (log_type not in LEVELS and log_type not in MOCK_LEVELS):
            known = log_type in LEVELS or log_type in MOCK_LEVELS
            self._find(
                "log-error",
                f"flame_log(log_type={log_type!r}) "
                + ("marks the node failed on FLAME" if known else "is a type that FLAME does not know: it stops there"),
                "raise an exception to stop the node, or log with 'warn', 'alert' or 'crit' to go on",
            )
        elif log_type in MOCK_LEVELS:
            self._find(
                "log-error",
                f"flame_log(log_type={log_type!r}) is a type that only FLAME's local mock knows: it stops a node there",
                "use one of " + ", ".join(LEVELS),
            )
        if isinstance(msg, bytes):
            text = msg.decode("utf-8", "replace")
        elif isinstance(msg, str):
            text = msg
        elif isinstance(msg, Iterable):
            text = sep.join(str(part) for part in msg)
        else:
            text = str(msg)
        text += end.rstrip("\n")
        self._board.log(Log(self._seat.node_id, self._seat.role, self._seat.round, log_type, text), append)

    def declare_log_types(self, new_log_types: dict[str, str]) -> None:
        """Accepted and ignored, as FLAME's mock does."""

    def get_progress(self) -> int:
        """This node's progress, 0 to 100."""
        return self._progress

    def set_progress(self, progress: float) -> None:
        """Set the progress: floats are cut; what is out of range or goes down is logged and ignored."""
        value = int(progress)
        if not 0 <= value <= 100:
            self.flame_log(f"Invalid progress: {progress} (a number from 0 to 100 is wanted)", log_type="warn")
        elif value < self._progress:
            self.flame_log(f"Progress may not go down: {progress} after {self._progress}", log_type="warn")
        else:
            self._progress = value
            if self._board.progress is not None:
                self._board.progress(self._seat.node_id, value)

    # Messages

    def send_message(
        self,
        receivers: list[str],
        message_category: str,
        message: dict[str, Any],
        max_attempts: int = 1,
        timeout: float | None = None,
        attempt_timeout: float = 10,
    ) -> tuple[list[str], list[str]]:
        """Send a dict of JSON values; gives who acknowledged and who did not.

        Raises ValueError for unknown receivers and the reserved key `meta`, TypeError for what JSON cannot carry.
        """
        self._board.check()
        ids = self._known("receivers", receivers)
        text = self._inbox.encode(message_category, message)
        if len(text) > 2_000_000:
            self._find(
                "message-size",
                f"a message of {len(text) / 1e6:.1f} MB is sent; FLAME's broker carries about 2 MB",
                "send large objects with send_intermediate_data",
            )
        if self._seat.checks is not None:
            self._seat.checks.left(message, "message")
        for envelope in self._inbox.address(ids, "message", message_category, lambda: text):
            self._board.deliver(envelope)
        return ids, []

    def await_messages(
        self,
        senders: list[str],
        message_category: str,
        message_id: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, list[Message] | None]:
        """Wait for a message of every sender, and mark them read; on timeout None for those that are missing."""
        return self._block(self._await_messages(senders, message_category, message_id, timeout))

    def get_messages(self, status: Literal["unread", "read"] = "unread") -> list[Message]:
        """The messages that have come, by status."""
        with self._board.lock:
            return [message for message in self._inbox.messages if message.body["meta"]["status"] == status]

    def delete_messages(self, message_ids: list[str]) -> int:
        """Delete messages by id; gives how many there were."""
        ids = set(message_ids)
        with self._board.lock:
            return self._inbox.delete(lambda message: message.body["meta"]["id"] in ids)

    def clear_messages(self, status: Literal["read", "unread", "all"] = "read", min_age: float | None = None) -> int:
        """Delete messages by status, and if `min_age` is given only those older than so many seconds."""
        with self._board.lock:
            return self._inbox.delete(
                lambda message: (
                    (status in ("all", message.body["meta"]["status"]))
                    and (min_age is None or message.age() >= min_age)
                )
            )

    def send_message_and_wait_for_responses(
        self,
        receivers: list[str],
        message_category: str,
        message: dict[str, Any],
        max_attempts: int = 1,
        timeout: float | None = None,
        attempt_timeout: float = 10,
    ) -> dict[str, list[Message] | None]:
        """Send, then wait for an answer of the same category from each receiver."""
        return self._block(
            self._send_message_and_wait_for_responses(
                receivers, message_category, message, max_attempts, timeout, attempt_timeout
            )
        )

    # Intermediate data

    def send_intermediate_data(
        self,
        receivers: list[str],
        data: Any,
        message_category: str = "intermediate_data",
        max_attempts: int = 1,
        timeout: float | None = None,
        attempt_timeout: float = 10,
        encrypted: bool = False,
    ) -> tuple[list[str], list[str]]:
        """Send any picklable object; each receiver gets a copy of its own."""
        self._board.check()
        ids = self._known("receivers", receivers)
        if self._seat.checks is not None:
            self._seat.checks.left(data, "data")
        copies = Broadcast(data, pages=self._board.pages)
        try:
            for envelope in self._inbox.address(ids, "data", message_category, copies.take):
                self._board.deliver(envelope)
        finally:
            copies.close()
        return ids, []

    def await_intermediate_data(
        self, senders: list[str], message_category: str = "intermediate_data", timeout: float | None = None
    ) -> dict[str, Any]:
        """Wait for an object from every sender; on timeout None for those that are missing."""
        return self._block(self._await_intermediate_data(senders, message_category, timeout))

    def save_intermediate_data(
        self,
        data: Any,
        location: Literal["local", "global"],
        remote_node_ids: list[str] | None = None,
        tag: str | None = None,
    ) -> Any:
        """Save an object: "local" in the node's own store, under a `tag` if one is given; "global" for the nodes in
        `remote_node_ids`. Gives {'status', 'url', 'id'}, or one such per remote node. Raises ValueError for a bad tag
        or location, and for "global" without `remote_node_ids`."""
        self._board.check()
        if location == "global":
            if not remote_node_ids:
                raise ValueError("remote_node_ids must be given for global data: the ids of the nodes that may read it")
            if tag is not None:
                raise ValueError(f"tag={tag!r} is given with location='global'; tags are for local data only")
            ids = self._known("remote_node_ids", remote_node_ids, itself=True)
            if self._seat.checks is not None:
                self._seat.checks.left(data, "data")
            copies = Broadcast(data, pages=self._board.pages)
            answers = {}
            try:
                for envelope in self._inbox.address(ids, "stored", "", copies.take):
                    self._board.deliver(envelope)
                    answers[envelope.receiver] = _saved("intermediate", envelope.id)
            finally:
                copies.close()
            return answers
        if location != "local":
            raise ValueError(f"location={location!r} is given, 'local' or 'global' is wanted")
        return _saved("local", self._store.save(data, tag))

    def get_intermediate_data(
        self,
        location: Literal["local", "global"],
        query: str | None = None,
        tag: str | None = None,
        tag_option: Literal["all", "first", "last"] = "all",
        id: str | None = None,
        sender_node_id: str | None = None,
    ) -> Any:
        """Get an object by its id (`query`; FLAME's mock calls it `id`), or the list of those saved under `tag`.

        Raises ValueError without either, KeyError for an id that this node did not save or was not addressed.
        """
        self._board.check()
        query = query if query is not None else id
        if location == "global":
            if query is None:
                raise ValueError("global intermediate data is got by its id: give query='...'")
            with self._board.lock:
                return self._inbox.stored(query)
        if location != "local":
            raise ValueError(f"location={location!r} is given, 'local' or 'global' is wanted")
        if tag is not None:
            if tag_option not in ("all", "first", "last"):
                raise ValueError(f"tag_option={tag_option!r} is given, 'all', 'first' or 'last' is wanted")
            ids = self._store.tagged(tag)
            wanted = {"all": ids, "first": ids[:1], "last": ids[-1:]}[tag_option]
            return [self._store.load(known) for known in wanted]
        if query is None:
            raise ValueError("local intermediate data is got by its id or its tag: give query='...' or tag='...'")
        return self._store.load(query)

    def get_local_tags(self, filter: str | None = None) -> list[str]:
        """The tags of local data, only those that contain `filter` where it is given."""
        return self._store.tags(filter)

    # Data sources

    @property
    def _asked_for_data(self) -> bool:
        return self._sources.asked

    def get_data_sources(self) -> list[dict[str, Any]]:
        """One dict per data source of this node."""
        return self._sources.describe()

    def get_data_client(self, data_id: str) -> httpx.AsyncClient:
        """An httpx client for one source, answered from this node's split; needs the extra `fhir`."""
        return self._sources.client(data_id)

    def get_s3_data(self, s3_keys: list[str] | None = []) -> Any:  # noqa: B006  (FLAME's own default; never changed)
        """Per source {name: bytes}, filtered by name; [] for all. What is not in FLAME's shape comes as it is."""
        return self._sources.s3(s3_keys)

    def get_fhir_data(self, fhir_queries: list[str] | None = []) -> Any:  # noqa: B006
        """Per source {query: bundle}, the queries asked for; [] for all. What is not in that shape comes as it is."""
        return self._sources.fhir(fhir_queries)

    def fhir_to_csv(
        self,
        fhir_data: dict[str, Any],
        col_key_seq: str,
        value_key_seq: str,
        input_resource: str,
        row_key_seq: str | None = None,
        row_id_filters: list[str] | None = None,
        col_id_filters: list[str] | None = None,
        row_col_name: str = "",
        separator: str = ",",
        output_type: Literal["file", "dict"] = "file",
    ) -> StringIO | dict[Any, dict[Any, Any]]:
        """Pivot a FHIR bundle to CSV or to {column: {row: value}}; see `star_actors.data.fhir_table`."""
        from ..data.fhir_table import fhir_to_csv

        return fhir_to_csv(
            fhir_data,
            col_key_seq,
            value_key_seq,
            input_resource,
            row_key_seq,
            row_id_filters,
            col_id_filters,
            row_col_name,
            separator,
            output_type,
            fetch_next=self._sources.next_page,
            notice=lambda text: self.flame_log(text, log_type="notice"),
        )

    # The result

    def submit_final_result(
        self,
        result: Any,
        output_type: Any = "str",
        multiple_results: bool = False,
        filename: str | list[str] | None = None,
        local_dp: dict[str, float] | None = None,
    ) -> Any:
        """Release a result from inside the aggregator, through the same pipeline as the final one.

        Raises RuntimeError on an analyzer.
        """
        if self._seat.role != "aggregator":
            raise RuntimeError(
                f"submit_final_result is for the aggregator ({self.get_aggregator_id()}), not for {self._seat.node_id}"
            )
        self._board.check()
        assert self._board.submit is not None
        return self._board.submit(result, output_type, multiple_results, filename, local_dp)

    # Operations that wait, each written once

    def _await_messages(
        self, senders: list[str], message_category: str, message_id: str | None = None, timeout: float | None = None
    ) -> Operation[dict[str, list[Message] | None]]:
        ids = list(dict.fromkeys(self._known("senders", senders)))
        arrived = self._inbox.messages_from(ids, message_category, message_id)
        yield Wait(self._seat, arrived, timeout, f"a message of category {message_category!r} from {_names(ids)}")
        with self._board.lock:
            return self._inbox.read(ids, message_category, message_id)

    def _send_message_and_wait_for_responses(
        self,
        receivers: list[str],
        message_category: str,
        message: dict[str, Any],
        max_attempts: int = 1,
        timeout: float | None = None,
        attempt_timeout: float = 10,
    ) -> Operation[dict[str, list[Message] | None]]:
        ids, _ = self.send_message(receivers, message_category, message, max_attempts, timeout, attempt_timeout)
        return (yield from self._await_messages(ids, message_category, None, timeout))

    def _await_intermediate_data(
        self, senders: list[str], message_category: str = "intermediate_data", timeout: float | None = None
    ) -> Operation[dict[str, Any]]:
        ids = list(dict.fromkeys(self._known("senders", senders)))
        arrived = self._inbox.data_from(ids, message_category)
        yield Wait(self._seat, arrived, timeout, f"intermediate data ({message_category!r}) from {_names(ids)}")
        with self._board.lock:
            return self._inbox.take(ids, message_category)

    def _block(self, operation: Operation[T]) -> T:
        answer: Any = None
        while True:
            try:
                wait = operation.send(answer)
            except StopIteration as end:
                return cast(T, end.value)
            answer = self._board.block(wait)

    async def _suspend(self, operation: Operation[T]) -> T:
        answer: Any = None
        while True:
            try:
                wait = operation.send(answer)
            except StopIteration as end:
                return cast(T, end.value)
            answer = await self._board.suspend(wait)

    def _state(self) -> dict[str, Any]:
        """What this node's session holds, to be pickled with the board's lock held."""
        return {
            "inbox": self._inbox,
            "store": self._store,
            "progress": self._progress,
            "finished": self.config.finished,
        }

    def _resume(self, state: dict[str, Any]) -> None:
        """Go on with what a session of the same node held elsewhere."""
        self._inbox, self._store = state["inbox"], state["store"]
        self._progress, self.config.finished = state["progress"], state["finished"]
        self._board.register(self._seat.node_id, self._inbox.accept)

    def _known(self, name: str, ids: Any, *, itself: bool = False) -> list[str]:
        """The ids as a list of our own. Raises ValueError for what is not a list of participants."""
        if isinstance(ids, str) or not isinstance(ids, Iterable):
            raise ValueError(f"{name}={ids!r} is given, a list of participant ids is wanted: [{ids!r}]")
        known: list[str] = list(ids)
        others = {id for id, _ in self._participants}
        unknown = [id for id in known if id not in others or (id == self._seat.node_id and not itself)]
        if unknown:
            raise ValueError(
                f"{name} has {unknown!r}, which {'is' if len(unknown) == 1 else 'are'} no other participant of this "
                f"analysis; there are {_names(self.get_participant_ids())}"
            )
        return known

    def _find(self, kind: Any, message: str, advice: str, path: str | None = None) -> None:
        self._board.find(Finding(kind, message, advice, self._seat.node_id, self._seat.round, path))


class AioSession:
    """The awaitable side of a session: every method of `FlameSession`, under the same name, to be awaited."""

    def __init__(self, session: FlameSession) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Callable[..., Any]:
        session = self._session
        method = getattr(session, name)
        operation = getattr(type(session), f"_{name}", None)

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            if operation is not None:
                return await session._suspend(operation(session, *args, **kwargs))
            return method(*args, **kwargs)

        return call


def _public_names() -> list[str]:
    return [name for name in vars(FlameSession) if not name.startswith("_")]


def _saved(place: str, id: str) -> dict[str, str]:
    return {"status": "success", "url": f"/{place}/{id}", "id": id}


def _names(ids: list[str], most: int = 8) -> str:
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")
