"""A FLAME of one process, written from the contract of its SDK: a hub, and a `FlameCoreSDK` for each node.

It does what makes FLAME hard to drive. Messages arrive on a thread of their own, are acknowledged by being sent back
with the status they then have, may be lost, late or repeated, and stay until they are cleared. Waits poll, and count
the messages that there are. A part that fails marks the node failed and sleeps. The end of an analysis wakes nobody.

    with Federation(analyzers=2) as hub, hub.installed():
        hub.s3("analyzer-0", {"data.csv": b"1\\n2"})
        ends = await hub.star(lambda: AsyncStarModel(Analyzer, Aggregator, "s3"))
"""

from __future__ import annotations

import asyncio
import copy
import json
import math
import pickle
import queue
import sys
import threading
import time
import types
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn, Protocol

import httpx
import pytest

from star_actors.platform import NodeRun

POLL = 0.05
"""Seconds between two looks of a waiting SDK; the real one looks once a second."""

ERROR_SLEEP = 1000.0
LOG_TYPES = ("debug", "info", "notice", "warn", "alert", "emerg", "error", "crit")

_here: ContextVar[tuple[Federation, str]] = ContextVar("_here")


class Fault(Protocol):
    """What happens to a message on its way to a node: how often it arrives (0: lost), or None: no say in it."""

    def __call__(self, receiver: str, message: dict[str, Any]) -> int | None: ...


class Federation:
    """The hub: who takes part, what is stored and released, and what goes wrong.

    `aggregator` and `analyzers` are node ids, in the platform's order. `faults` are asked about every delivery.
    `held` keeps back the deliveries that it says True to, until `let_go`. `dead` nodes neither send nor receive.
    `refusals` answers HTTP requests of a node to a service ("messages", "storage", "final", "start") with that status.
    """

    def __init__(self, analyzers: int = 2) -> None:
        self.aggregator = "aggregator-node"
        self.analyzers = [f"analyzer-{i}" for i in range(analyzers)]
        self.roles = {**dict.fromkeys(self.analyzers, "default"), self.aggregator: "aggregator"}
        self.sources: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.strict_sources = False
        self.faults: list[Fault] = []
        self.held: Callable[[str, dict[str, Any]], bool] = lambda receiver, message: False
        self.dead: set[str] = set()
        self.refusals: Callable[[str, str], int | None] = lambda node_id, service: None
        self.webhook_errors = 0
        self.sdks: dict[str, FlameCoreSDK] = {}
        self.sent: list[tuple[str, list[str], dict[str, Any]]] = []
        self.stored: dict[str, tuple[str, str, bytes]] = {}
        self.released: list[Release] = []
        self.logs: list[tuple[str, str, str]] = []
        self.happened: list[tuple[str, str]] = []
        self.closed = threading.Event()
        self._webhooks: dict[str, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._threads: list[threading.Thread] = []
        self._kept_back: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        for webhook in self._webhooks.values():
            webhook.put(None)
        for thread in self._threads:
            thread.join(10)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Make `import flamesdk` give this module's SDK."""
        module = types.ModuleType("flamesdk")
        module.FlameCoreSDK = FlameCoreSDK  # type: ignore[attr-defined]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "flamesdk", module)
            yield

    @contextmanager
    def on(self, node_id: str) -> Iterator[None]:
        """Run what stands inside as if in the process of this node."""
        token = _here.set((self, node_id))
        try:
            yield
        finally:
            _here.reset(token)

    def s3(self, node_id: str, objects: dict[str, bytes]) -> None:
        """Give a node an S3 source."""
        self.sources.setdefault(node_id, []).append(("s3", objects))

    def fhir(self, node_id: str, bundles: dict[str, dict[str, Any]]) -> None:
        """Give a node a FHIR source that answers these queries."""
        self.sources.setdefault(node_id, []).append(("fhir", bundles))

    def kill(self, node_id: str) -> None:
        """End a node's process without a word."""
        self.dead.add(node_id)

    def let_go(self) -> None:
        """Deliver what was held back, and hold nothing back any more."""
        self.held = lambda receiver, message: False
        kept, self._kept_back = self._kept_back, []
        for receiver, message in kept:
            self._webhooks[receiver].put(message)

    def letters(self, kind: str, *, sender: str | None = None) -> list[tuple[str, list[str], dict[str, Any]]]:
        """The messages of the star itself that were sent, without acknowledgements."""
        return [
            (who, to, message["star_actors"])
            for who, to, message in list(self.sent)
            if message.get("star_actors", {}).get("kind") == kind
            and message["meta"]["akn_id"] is None
            and sender in (None, who)
        ]

    async def star(
        self, make: Callable[[], Awaitable[Any]], nodes: Iterable[str] | None = None
    ) -> dict[str, NodeRun | BaseException]:
        """Run `make()`, an AsyncStarModel, at every node, beside each other; gives what each came to."""

        async def one(node_id: str) -> Any:
            with self.on(node_id):
                return await make()

        ids = list(self.roles if nodes is None else nodes)
        ends = await asyncio.gather(*map(one, ids), return_exceptions=True)
        return dict(zip(ids, ends, strict=True))

    # For the SDKs

    def listen(self, sdk: FlameCoreSDK) -> None:
        """Begin to deliver to a node: its webhook thread."""
        webhook: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        with self._lock:
            self.sdks[sdk.get_id()] = sdk
            earlier = self._webhooks.get(sdk.get_id())
            self._webhooks[sdk.get_id()] = webhook
        if earlier is not None:
            earlier.put(None)
        # The real one is no daemon, whatever thread starts it; a test must be able to end.
        thread = threading.Thread(target=self._serve, args=(sdk, webhook), name=f"webhook {sdk.get_id()}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def send(self, sender: str, receivers: list[str], message: dict[str, Any]) -> None:
        """Take one message for its receivers."""
        text = json.dumps(message)
        if len(text) > 2_000_000:
            raise AssertionError(f"a message of {len(text)} bytes does not pass the broker")
        if sender in self.dead:
            return
        self.sent.append((sender, list(receivers), json.loads(text)))
        for receiver in receivers:
            self._route(receiver, json.loads(text))

    def _route(self, receiver: str, message: dict[str, Any]) -> None:
        times = 1
        for fault in self.faults:
            said = fault(receiver, message)
            times = times if said is None else said
        with self._lock:
            webhook = self._webhooks.get(receiver)
        if webhook is None or receiver in self.dead:
            return  # nobody is online there
        for _ in range(times):
            if self.held(receiver, message):
                self._kept_back.append((receiver, copy.deepcopy(message)))
            else:
                webhook.put(copy.deepcopy(message))

    def _serve(self, sdk: FlameCoreSDK, webhook: queue.SimpleQueue[dict[str, Any] | None]) -> None:
        while (message := webhook.get()) is not None:
            if sdk.get_id() in self.dead:
                continue
            if self.webhook_errors > 0:
                # The server behind the webhook is not up yet; the broker tries again a little later.
                self.webhook_errors -= 1
                self.happened.append((sdk.get_id(), "webhook answered 502"))
                threading.Timer(0.05, webhook.put, (message,)).start()
                continue
            sdk.receive(message)


class Release:
    """One final result that was submitted."""

    def __init__(self, result: Any, output_type: str, filename: str | None, local_dp: dict[str, float] | None) -> None:
        self.result = result
        self.output_type = output_type
        self.filename = filename
        self.local_dp = local_dp


class Message:
    """A message in a node's list; `body["meta"]` says whose it is and whether it was read."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    def set_read(self) -> None:
        self.body["meta"]["status"] = "read"


class Logger:
    """What the SDK logs with, and how it fails."""

    def __init__(self, federation: Federation, node_id: str) -> None:
        self.federation = federation
        self.node_id = node_id
        self.runstatus = "starting"

    def new_log(self, msg: str, log_type: str = "info") -> None:
        if log_type not in LOG_TYPES:
            self.raise_error(f"unknown log type {log_type}")
        self.federation.logs.append((self.node_id, log_type, msg))

    def set_runstatus(self, status: str) -> None:
        if self.runstatus not in ("executed", "stopped", "failed"):
            self.runstatus = status

    def raise_error(self, message: str, seconds: float = ERROR_SLEEP) -> None:
        self.set_runstatus("failed")
        self.federation.happened.append((self.node_id, "marked failed"))
        self.new_log(message, "error")
        self.federation.closed.wait(seconds)


class Config:
    """What the SDK keeps about its node."""

    def __init__(self, node_id: str, role: str) -> None:
        self.node_id = node_id
        self.node_role = role
        self.finished = False


class FlameCoreSDK:
    """The SDK of one node, as the contract has it."""

    def __init__(self, stream_log_level: int = 20) -> None:
        self._federation, node_id = _here.get()
        self._flame_logger = Logger(self._federation, node_id)
        self.stream_log_level = stream_log_level
        self.flame_log("Starting FlameCoreSDK")
        try:
            self._ask("start", node_id)
        except Exception as error:
            self.flame_log(f"failed ({error!r})", log_type="error")
        self.config = Config(node_id, self._federation.roles[node_id])
        self._incoming: list[Message] = []
        self._known: set[str] = set()
        self._outgoing: list[Message] = []
        self._numbers = 0
        self._progress = 0
        self.server_is_daemon = threading.current_thread().daemon  # what a thread started here would be
        self._federation.listen(self)
        self._flame_logger.set_runstatus("executing")
        self.flame_log("FlameCoreSDK ready")

    # Who is who

    def get_id(self) -> str:
        return self.config.node_id

    def get_role(self) -> str:
        return self.config.node_role

    def get_analysis_id(self) -> str:
        return "analysis"

    def get_project_id(self) -> str:
        return "project"

    def get_participants(self) -> list[dict[str, str]]:
        roles = self._federation.roles
        return [{"nodeId": n, "nodeType": role} for n, role in roles.items() if n != self.get_id()]

    def get_participant_ids(self) -> list[str]:
        return [p["nodeId"] for p in self.get_participants()]

    def get_aggregator_id(self) -> str | None:
        return next((p["nodeId"] for p in self.get_participants() if p["nodeType"] == "aggregator"), None)

    # Logs and progress

    def flame_log(
        self,
        msg: Any,
        sep: str = "",
        end: str = "",
        log_type: str = "info",
        append: bool = False,
        halt_submission: bool = False,
    ) -> None:
        text = msg if isinstance(msg, str) else sep.join(msg)
        if log_type == "error":
            self._flame_logger.raise_error(text)
        else:
            self._flame_logger.new_log(text + end, log_type)

    def get_progress(self) -> int:
        return self._progress

    def set_progress(self, progress: float) -> None:
        if 0 <= int(progress) <= 100 and int(progress) >= self._progress:
            self._progress = int(progress)

    # Messages

    def receive(self, body: dict[str, Any]) -> None:
        """The webhook: what has arrived, on the node's server thread."""
        new = body["meta"]["id"] not in self._known
        own = body["meta"]["sender"] == self.get_id()
        needs_acknowledgement = body["meta"]["akn_id"] is None
        message = Message(body)
        if needs_acknowledgement:
            body["meta"]["akn_id"] = self.get_id()
        if new:
            if not own:
                self._known.add(body["meta"]["id"])
            self._incoming.append(message)
        if needs_acknowledgement:
            self._outgoing.append(message)
            self._federation.send(self.get_id(), [body["meta"]["sender"]], body)
        if body["meta"]["category"] == "analysis_finished" and not own:
            self._node_finished()

    def get_messages(self, status: str = "unread") -> list[Message]:
        return [m for m in list(self._incoming) if m.body["meta"]["status"] == status]

    def clear_messages(self, status: str = "read", min_age: float | None = None) -> int:
        cleared = 0
        for messages in (self._incoming, self._outgoing):
            for message in list(messages):
                if message.body["meta"]["status"] == status:
                    messages.remove(message)
                    cleared += 1
        return cleared

    def delete_messages(self, message_ids: list[str]) -> int:
        found = [m for m in list(self._incoming) if m.body["meta"]["id"] in message_ids]
        for message in found:
            self._incoming.remove(message)
        return len(found)

    def send_message(
        self,
        receivers: list[str],
        message_category: str,
        message: dict[str, Any],
        max_attempts: int = 1,
        timeout: float | None = None,
        attempt_timeout: float = 10,
    ) -> tuple[list[str], list[str]]:
        if "meta" in message:
            self._flame_logger.raise_error("'meta' is reserved")
        self._numbers += 1
        message["meta"] = {
            "type": "outgoing",
            "category": message_category,
            "id": f"{self.get_id()}-{self._numbers}-{uuid.uuid4().hex[:4]}",
            "akn_id": None,
            "status": "unread",
            "sender": self.get_id(),
            "number": self._numbers,
        }
        return asyncio.run(self._send(list(receivers), message, max_attempts, timeout, attempt_timeout))

    async def _send(
        self,
        receivers: list[str],
        message: dict[str, Any],
        max_attempts: int,
        within: float | None,
        attempt_within: float,
    ) -> tuple[list[str], list[str]]:
        missing = receivers
        for attempt in range(max_attempts):
            self._ask("messages", self.get_id())
            self._outgoing.append(Message(message))
            self._federation.send(self.get_id(), missing, message)
            limit: float | None = attempt_within if attempt < max_attempts - 1 else None
            waits = [asyncio.create_task(self._acknowledged(message["meta"]["id"], r)) for r in missing]
            done, _ = await asyncio.wait(waits, timeout=limit if within is None else within / max_attempts)
            acknowledged = {task.result() for task in done}
            missing = [r for r in missing if r not in acknowledged]
            for task in waits:
                task.cancel()
            if not missing:
                break
        return [r for r in receivers if r not in missing], missing

    async def _acknowledged(self, message_id: str, receiver: str) -> str:
        seen = -1
        while True:
            # It looks only when there are more messages than before: that is how a wake-up is lost.
            if len(self._incoming) > seen:
                for message in list(self._incoming):
                    meta = message.body["meta"]
                    if meta["id"] == message_id and meta["akn_id"] == receiver:
                        self._incoming.remove(message)
                        return receiver
            if seen < 0:
                seen = len(self._incoming)
            await asyncio.sleep(POLL)

    def await_messages(
        self, senders: list[str], message_category: str, message_id: str | None = None, timeout: float | None = None
    ) -> dict[str, list[Message] | None]:
        return asyncio.run(self._await(senders, message_category, timeout))

    async def _await(self, senders: list[str], category: str, within: float | None) -> dict[str, list[Message] | None]:
        give_up = math.inf if within is None else time.monotonic() + within
        found: dict[str, list[Message] | None] = dict.fromkeys(senders)
        while time.monotonic() < give_up:
            for sender in senders:
                found[sender] = found[sender] or [
                    m
                    for m in self.get_messages("unread")
                    if m.body["meta"]["sender"] == sender and m.body["meta"]["category"] == category
                ]
            if all(found.values()) or self._federation.closed.is_set():
                break
            await asyncio.sleep(POLL)
        for messages in found.values():
            for message in messages or ():
                message.set_read()
        return {sender: messages or None for sender, messages in found.items()}

    def send_intermediate_data(
        self, receivers: list[str], data: Any, message_category: str = "intermediate_data", **options: Any
    ) -> tuple[list[str], list[str]]:
        saved = self.save_intermediate_data(data, "global", remote_node_ids=receivers)
        ids = {node_id: said["id"] for node_id, said in saved.items()}
        return self.send_message(receivers, message_category, {"result_id": ids}, **options)

    def await_intermediate_data(
        self, senders: list[str], message_category: str = "intermediate_data", timeout: float | None = None
    ) -> dict[str, Any]:
        found = self.await_messages(senders, message_category, timeout=timeout)
        return {
            sender: messages
            and self.get_intermediate_data("global", query=messages[-1].body["result_id"][self.get_id()])
            for sender, messages in found.items()
        }

    # Storage

    def save_intermediate_data(
        self, data: Any, location: str, remote_node_ids: list[str] | None = None, tag: str | None = None
    ) -> dict[str, Any]:
        if location != "global" or remote_node_ids is None:
            raise ValueError("this fake keeps global data only, and needs remote_node_ids")
        saved = {}
        for receiver in remote_node_ids:
            self._ask("storage", self.get_id())
            key = uuid.uuid4().hex
            self._federation.stored[key] = (self.get_id(), receiver, pickle.dumps(data))
            saved[receiver] = {"status": "success", "url": f"http://storage/{key}", "id": key}
        return saved

    def get_intermediate_data(self, location: str, query: str | None = None, **options: Any) -> Any:
        self._ask("storage", self.get_id())
        _, receiver, blob = self._federation.stored[str(query)]
        if receiver != self.get_id():
            self._flame_logger.raise_error(f"{query} is not for {self.get_id()}")
        return pickle.loads(blob)

    def submit_final_result(
        self,
        result: Any,
        output_type: Any = "str",
        multiple_results: bool = False,
        filename: Any = None,
        local_dp: dict[str, float] | None = None,
    ) -> Any:
        if self.get_role() != "aggregator":
            self._flame_logger.raise_error("only the aggregator may submit")
        several = multiple_results and isinstance(result, (list, tuple)) and len(result) != 1
        for i, item in enumerate(result if several else [result]):
            kind = output_type[i] if isinstance(output_type, list) else output_type
            name = filename[i] if isinstance(filename, list) else filename
            if local_dp is not None and not (isinstance(item, (int, float)) and math.isfinite(item)):
                self._flame_logger.raise_error("local differential privacy needs a finite number")
            self._ask("final", self.get_id())
            self._federation.released.append(Release(item, kind, name, local_dp))
        return {"status": "success"}

    # Data

    def get_data_sources(self) -> list[dict[str, Any]]:
        sources = self._federation.sources.get(self.get_id(), [])
        return [{"id": str(i), "name": f"project-{kind}"} for i, (kind, _) in enumerate(sources)]

    def get_s3_data(self, s3_keys: list[str]) -> list[dict[str, bytes]]:
        return asyncio.run(self._get_s3_data(s3_keys))

    async def _get_s3_data(self, s3_keys: list[str]) -> list[dict[str, bytes]]:
        data: list[dict[str, bytes]] = []
        for kind, objects in self._federation.sources.get(self.get_id(), []):
            if kind != "s3":
                if self._federation.strict_sources:
                    try:
                        self._refuse(404, "http://kong/source/s3")
                    except httpx.HTTPStatusError as error:
                        self._flame_logger.raise_error(f"no listing: {error!r}")
                data.append({})
                continue
            data.append({name: blob for name, blob in objects.items() if not s3_keys or name in s3_keys})
        return data

    def get_fhir_data(self, fhir_queries: list[str]) -> list[dict[str, Any]] | None:
        return asyncio.run(self._get_fhir_data(fhir_queries))

    async def _get_fhir_data(self, fhir_queries: list[str]) -> list[dict[str, Any]] | None:
        if not fhir_queries:
            return None
        return [
            {q: bundles[q] for q in fhir_queries if kind == "fhir" and q in bundles}
            for kind, bundles in self._federation.sources.get(self.get_id(), [])
        ]

    # The end

    def analysis_finished(self) -> bool:
        self.send_message(self.get_participant_ids(), "analysis_finished", {}, max_attempts=5, attempt_timeout=30)
        return self._node_finished()

    def _node_finished(self) -> bool:
        self._progress = 100
        self._flame_logger.set_runstatus("executed")
        self.config.finished = True
        return True

    def _ask(self, service: str, node_id: str) -> None:
        status = self._federation.refusals(node_id, service)
        if status is None:
            return
        self._federation.happened.append((node_id, f"{service} answered {status}"))
        try:
            self._refuse(status, f"http://nginx/{service}")
        except httpx.HTTPStatusError as error:
            self._flame_logger.raise_error(f"{service}: {error!r}")

    def _refuse(self, status: int, url: str) -> NoReturn:
        request = httpx.Request("GET", url)
        raise httpx.HTTPStatusError(str(status), request=request, response=httpx.Response(status, request=request))
