"""What has come for one node: messages, intermediate data, and objects stored for it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Literal

from ..isolation import private_copy
from .board import NOT_YET, Envelope

__all__ = ["Inbox", "Message"]

READ_KEPT = 10_000
"""How many read messages a node keeps; on FLAME they are kept for ever, here memory stays flat."""


class Message:
    """A message that has come. `body` is what was sent, with `body['meta']` holding sender, category, id, number,
    status and the times."""

    __slots__ = ("_arrived", "body")

    def __init__(self, envelope: Envelope, receiver: str) -> None:
        self.body: dict[str, Any] = json.loads(envelope.payload)
        self._arrived = datetime.now()
        self.body["meta"] = {
            "type": "incoming",
            "category": envelope.category,
            "id": envelope.id,
            "akn_id": receiver,
            "status": "unread",
            "sender": envelope.sender,
            "created_at": str(self._arrived),
            "arrived_at": str(self._arrived),
            "number": envelope.number,
        }

    def set_read(self) -> None:
        """Mark it as read."""
        self.body["meta"]["status"] = "read"

    def age(self) -> float:
        """Seconds since it came."""
        return (datetime.now() - self._arrived).total_seconds()

    def __repr__(self) -> str:
        meta = self.body["meta"]
        return f"<Message {meta['id']} of category {meta['category']!r} from {meta['sender']}, {meta['status']}>"


class Inbox:
    """One node's inbox. Whatever changes it is called with the board's lock held."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.messages: list[Message] = []
        self._unread: dict[str, dict[str, list[Message]]] = {}
        self._data: dict[str, dict[str, Any]] = {}
        self._stored: dict[str, Any] = {}
        self._number = 0
        self._read = 0

    # Sending

    def encode(self, category: str, message: dict[str, Any]) -> str:
        """A message as JSON. Raises as FLAME's SDK would refuse it, in words."""
        if not isinstance(category, str):
            raise TypeError(f"message_category={category!r} is given, a str is wanted")
        if not isinstance(message, dict):
            raise TypeError(f"a message of type {type(message).__name__} is given, a dict of JSON values is wanted")
        if "meta" in message:
            raise ValueError("the key 'meta' of a message is reserved: FLAME keeps sender, category and id there")
        try:
            return json.dumps(message)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"a message is carried as JSON, and this one cannot be: {error}; "
                "send other objects with send_intermediate_data"
            ) from error

    def address(
        self, receivers: list[str], kind: Literal["message", "data", "stored"], category: str, take: Callable[[], Any]
    ) -> Iterator[Envelope]:
        """One envelope per receiver, each with what `take` gives."""
        self._number += 1
        for receiver in receivers:
            id = str(uuid.uuid4()) if kind == "stored" else f"{self.node_id}-{self._number}"
            yield Envelope(self.node_id, receiver, kind, category, id, self._number, take())

    # Receiving

    def accept(self, envelope: Envelope) -> None:
        """Sort in what has come."""
        match envelope.kind:
            case "message":
                message = Message(envelope, self.node_id)
                self.messages.append(message)
                self._unread.setdefault(envelope.category, {}).setdefault(envelope.sender, []).append(message)
            case "data":
                # Two sends before one await: the last one counts, as on FLAME.
                self._data.setdefault(envelope.category, {})[envelope.sender] = envelope.payload
            case "stored":
                self._stored[envelope.id] = envelope.payload

    def messages_from(self, senders: list[str], category: str, id: str | None) -> Callable[[], Any]:
        """A condition: every sender has an unread message of the category (and id)."""

        def has(sender: str) -> bool:
            waiting = self._unread.get(category, {}).get(sender, ())
            return any(id is None or message.body["meta"]["id"] == id for message in waiting)

        return _all_have(senders, has)

    def data_from(self, senders: list[str], category: str) -> Callable[[], Any]:
        """A condition: there is intermediate data of every sender."""
        return _all_have(senders, lambda sender: sender in self._data.get(category, ()))

    def read(self, senders: list[str], category: str, id: str | None) -> dict[str, list[Message] | None]:
        """The unread messages of the senders, marked as read; None for a sender without one."""
        answer: dict[str, list[Message] | None] = {}
        by_sender = self._unread.get(category, {})
        for sender in senders:
            waiting = by_sender.get(sender, [])
            chosen = [m for m in waiting if id is None or m.body["meta"]["id"] == id]
            answer[sender] = chosen or None
            for message in chosen:
                message.set_read()
                waiting.remove(message)
            if sender in by_sender and not waiting:
                del by_sender[sender]
            self._read += len(chosen)
        if not by_sender:
            self._unread.pop(category, None)
        if self._read > READ_KEPT:
            self.delete(lambda message: message.body["meta"]["status"] == "read")
        return answer

    def take(self, senders: list[str], category: str) -> dict[str, Any]:
        """The senders' intermediate data, taken out; None for a sender without any."""
        by_sender = self._data.get(category, {})
        answer = {sender: by_sender.pop(sender, None) for sender in senders}
        if not by_sender:
            self._data.pop(category, None)
        return answer

    def stored(self, id: str) -> Any:
        """A copy of an object that was stored for this node."""
        try:
            return private_copy(self._stored[id])[0]
        except KeyError:
            raise KeyError(f"no global data with id {id!r} is addressed to {self.node_id}") from None

    def delete(self, chosen: Callable[[Message], bool]) -> int:
        """Delete messages; gives how many."""
        gone = [message for message in self.messages if chosen(message)]
        dead = set(map(id, gone))
        self.messages = [message for message in self.messages if id(message) not in dead]
        for by_sender in self._unread.values():
            for sender, waiting in list(by_sender.items()):
                by_sender[sender] = [message for message in waiting if id(message) not in dead]
                if not by_sender[sender]:
                    del by_sender[sender]
        self._read = sum(message.body["meta"]["status"] == "read" for message in self.messages)
        return len(gone)


def _all_have(senders: list[str], has: Callable[[str], bool]) -> Callable[[], Any]:
    # What has come does not go while its receiver waits, so each look starts where the last one stopped.
    position = 0

    def condition() -> Any:
        nonlocal position
        while position < len(senders) and has(senders[position]):
            position += 1
        return True if position == len(senders) else NOT_YET

    return condition
