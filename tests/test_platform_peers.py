"""What an analysis waits for with the SDK: other nodes' messages, without the SDK's lost wake-ups."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from fake_flamesdk import Federation

from star_actors.errors import NodeStopped
from star_actors.platform.sdk import open_sdk

T = TypeVar("T")


@pytest.fixture
def hub() -> Iterator[Federation]:
    with Federation() as hub, hub.installed():
        yield hub


@pytest.fixture
def here(hub: Federation) -> Any:
    with hub.on("analyzer-0"):
        return open_sdk(20, None)


@pytest.fixture
def there(hub: Federation) -> Any:
    with hub.on("analyzer-1"):
        return open_sdk(20, None)


def beside(call: Callable[[], T]) -> Callable[[], T]:
    """Start a call on a thread; what is given waits for its value."""
    values: list[T] = []
    thread = threading.Thread(target=lambda: values.append(call()), daemon=True)
    thread.start()

    def value() -> T:
        thread.join(20)
        assert values, "the call is still waiting"
        return values[0]

    return value


def held_acknowledgement(hub: Federation) -> threading.Event:
    """Hold acknowledgements back; the event says that there is one."""
    there_is = threading.Event()

    def hold(receiver: str, message: dict[str, Any]) -> bool:
        if message["meta"]["akn_id"] is None:
            return False
        there_is.set()
        return True

    hub.held = hold
    return there_is


def test_a_message_is_acknowledged_by_its_receiver(here: Any, there: Any) -> None:
    assert here.send_message(["analyzer-1"], "share", {"n": 1}) == (["analyzer-1"], [])


def test_an_acknowledgement_is_noticed_though_other_messages_were_removed_meanwhile(
    hub: Federation, here: Any, there: Any
) -> None:
    for n in range(3):
        there.send_message(["analyzer-0"], "old", {"n": n})
    there_is = held_acknowledgement(hub)
    sent = beside(lambda: here.send_message(["analyzer-1"], "share", {"n": 1}))
    assert there_is.wait(20)
    here.clear_messages("unread")  # now there are fewer messages than when the wait began, and will be
    hub.let_go()
    assert sent() == (["analyzer-1"], [])


def test_a_message_is_noticed_though_other_messages_were_removed_meanwhile(here: Any, there: Any) -> None:
    for n in range(3):
        there.send_message(["analyzer-0"], "old", {"n": n})
    got = beside(lambda: here.await_messages(["analyzer-1"], "share"))
    here.clear_messages("unread")
    there.send_message(["analyzer-0"], "share", {"n": 1})
    messages = got()["analyzer-1"]
    assert [m.body["n"] for m in messages] == [1]
    assert [m.body["meta"]["status"] for m in messages] == ["read"]


def test_who_does_not_acknowledge_in_time_is_told(hub: Federation, here: Any, there: Any) -> None:
    hub.dead.add("aggregator-node")
    assert here.send_message(["aggregator-node", "analyzer-1"], "share", {}, timeout=0.2) == (
        ["analyzer-1"],
        ["aggregator-node"],
    )


def test_who_sends_nothing_in_time_is_none(here: Any, there: Any) -> None:
    there.send_message(["analyzer-0"], "share", {"n": 1})
    got = here.await_messages(["analyzer-1", "aggregator-node"], "share", timeout=0.1)
    assert [got["analyzer-1"][0].body["n"], got["aggregator-node"]] == [1, None]


def test_a_message_can_be_waited_for_by_its_id(here: Any, there: Any) -> None:
    ids = []
    for n in range(2):
        message: dict[str, Any] = {"n": n}
        there.send_message(["analyzer-0"], "share", message)
        ids.append(message["meta"]["id"])
    got = here.await_messages(["analyzer-1"], "share", message_id=ids[1])
    assert [m.body["n"] for m in got["analyzer-1"]] == [1]


def test_of_two_sends_before_one_await_the_last_counts(here: Any, there: Any) -> None:
    for n in range(2):
        there.send_intermediate_data(["analyzer-0"], n)
    assert here.await_intermediate_data(["analyzer-1"]) == {"analyzer-1": 1}


def test_an_answer_is_waited_for_without_a_timeout(here: Any, there: Any) -> None:
    asked = beside(lambda: here.send_message_and_wait_for_responses(["analyzer-1"], "question", {}))
    there.await_messages(["analyzer-0"], "question")
    there.send_message(["analyzer-0"], "question", {"n": 42})
    assert [m.body["n"] for m in asked()["analyzer-1"]] == [42]


def test_a_wait_ends_when_the_run_has_ended(here: Any, there: Any) -> None:
    ended: list[BaseException] = []

    def wait() -> bool:
        try:
            here.await_messages(["analyzer-1"], "share")
        except NodeStopped as stopped:
            ended.append(stopped)
        return True

    waiting = beside(wait)
    here.stopped = True
    assert waiting()
    assert len(ended) == 1
