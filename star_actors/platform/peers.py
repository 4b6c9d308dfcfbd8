"""What an analysis waits for with the SDK: acknowledgements and messages of other nodes, without its lost wake-ups.

The SDK looks once a second, and only when it holds more messages than when the wait began: a message that is removed
meanwhile costs a wake-up, and the wait may last for ever. These waits look often, and at everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from ..errors import NodeStopped

__all__ = ["LONGEST_POLL", "SHORTEST_POLL", "PeerCalls", "pause_after"]

SHORTEST_POLL = 0.005
LONGEST_POLL = 0.1


def pause_after(quiet: float) -> float:
    """How long a wait may rest before it looks again, when nothing has come for `quiet` seconds."""
    return min(max(quiet / 50, SHORTEST_POLL), LONGEST_POLL)


class PeerCalls:
    """The SDK's blocking exchange of messages, to stand before its own. `stopped` ends every wait with NodeStopped."""

    stopped = False

    def send_message(
        self,
        receivers: list[str],
        message_category: str,
        message: dict[str, Any],
        max_attempts: int = 1,
        timeout: float | None = None,
        attempt_timeout: float = 10,
    ) -> tuple[list[str], list[str]]:
        send = cast("Any", super()).send_message
        if max_attempts != 1 or timeout == 0:
            sent: tuple[list[str], list[str]]
            sent = send(receivers, message_category, message, max_attempts, timeout, attempt_timeout)
            return sent
        content = dict(message)
        acknowledged, missing = (list(ids) for ids in send(list(receivers), message_category, message, timeout=0))
        meta = message.get("meta")
        if not isinstance(meta, dict):  # an SDK that does not say what it has sent must wait for it itself
            sent = send(receivers, message_category, content, max_attempts, timeout, attempt_timeout)
            return sent

        def look() -> bool:
            for answer in self._messages("unread") + self._messages("read"):
                about = answer.body["meta"]
                if about["id"] == meta["id"] and about["akn_id"] in missing:
                    about["status"] = "read"
                    missing.remove(about["akn_id"])
                    acknowledged.append(about["akn_id"])
            return not missing

        self._wait(look, timeout)
        return acknowledged, missing

    def await_messages(
        self, senders: list[str], message_category: str, message_id: str | None = None, timeout: float | None = None
    ) -> dict[str, list[Any] | None]:
        found: dict[str, list[Any] | None] = dict.fromkeys(senders)

        def look() -> bool:
            unread = [
                (message.body["meta"]["sender"], message)
                for message in self._messages("unread")
                if message.body["meta"]["category"] == message_category
                and message_id in (None, message.body["meta"]["id"])
            ]
            for node_id, messages in found.items():
                if not messages:
                    found[node_id] = [message for sender, message in unread if sender == node_id] or None
            return all(found.values())

        self._wait(look, timeout)
        for messages in found.values():
            for message in messages or ():
                message.body["meta"]["status"] = "read"
        return found

    def send_message_and_wait_for_responses(
        self,
        receivers: list[str],
        message_category: str,
        message: dict[str, Any],
        max_attempts: int = 1,
        timeout: float | None = None,
        attempt_timeout: float = 10,
    ) -> dict[str, list[Any] | None]:
        began = time.monotonic()
        self.send_message(receivers, message_category, message, max_attempts, timeout, attempt_timeout)
        left = None if timeout is None else max(timeout - (time.monotonic() - began), 1.0)
        return self.await_messages(receivers, message_category, timeout=left)

    def _messages(self, status: str) -> list[Any]:
        messages: list[Any] = cast("Any", self).get_messages(status)
        return messages

    def _wait(self, look: Callable[[], bool], timeout: float | None) -> None:
        began = time.monotonic()
        while not look():
            if self.stopped:
                raise NodeStopped("the run is over")
            waited = time.monotonic() - began
            if timeout is not None and waited >= timeout:
                return
            time.sleep(pause_after(waited))
