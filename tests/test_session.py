"""`self.flame`: FLAME's names, blocking and awaitable."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from analyses import aggregator, analyzer, report_of

from star_actors import History, NodeError

COLLECT = aggregator(aggregation_method=lambda self, results: results)


def others(self: Any) -> list[str]:
    return [id for id in self.partner_node_ids if id != self.flame.get_aggregator_id()]


def share(self: Any, data: Any, last: Any) -> Any:
    self.flame.send_intermediate_data(others(self), data, message_category="share")
    return data + sum(self.flame.await_intermediate_data(others(self), "share").values())


@pytest.mark.parametrize("engine", ["auto", "serial", "threads"])
def test_analyzers_exchange_shares_with_each_other(engine: str) -> None:
    assert report_of([1, 2, 3, 4], analyzer(share), COLLECT, engine=engine).result == [10] * 4


def test_a_ring_of_a_thousand_waiting_analyzers_needs_few_threads() -> None:
    most = 0

    def ring(self: Any, data: Any, last: Any) -> Any:
        nonlocal most
        ahead, behind = f"node_{(data + 1) % 1000}", f"node_{(data - 1) % 1000}"
        token = 0 if data == 0 else self.flame.await_intermediate_data([behind], "ring")[behind]
        self.flame.send_intermediate_data([ahead], token + 1, "ring")
        most = max(most, threading.active_count())
        return self.flame.await_intermediate_data([behind], "ring")[behind] if data == 0 else token + 1

    report = report_of(list(range(1000)), analyzer(ring), COLLECT)
    assert report.result[0] == 1000
    assert most <= 16


def test_messages_arrive_with_their_meta_and_are_read_once() -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        (other,) = others(self)
        assert self.flame.send_message([other], "hello", {"from": self.id}) == ([other], [])
        (message,) = self.flame.await_messages([other], "hello")[other]
        meta = message.body["meta"]
        assert (meta["sender"], meta["category"], meta["status"]) == (other, "hello", "read")
        assert self.flame.get_messages("unread") == []
        assert self.flame.get_messages("read") == [message]
        assert self.flame.clear_messages() == 1
        return message.body["from"]

    assert report_of([1, 2], analyzer(analyze), COLLECT).result == ["node_1", "node_0"]


def test_a_wait_that_runs_out_gives_none_for_those_that_are_missing() -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        return list(self.flame.await_messages(self.partner_node_ids, "never", timeout=0.01).values())

    assert report_of([1], analyzer(analyze), COLLECT).result == [[None]]


def test_two_sends_before_one_await_count_as_the_last() -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        for value in (1, 2):
            self.flame.send_intermediate_data(others(self), value)
        self.flame.send_message(others(self), "sent", {})
        self.flame.await_messages(others(self), "sent")
        return list(self.flame.await_intermediate_data(others(self)).values())

    assert report_of([1, 2], analyzer(analyze), COLLECT).result == [[2], [2]]


def test_async_methods_await_the_same_names_and_are_a_finding() -> None:
    async def analyze(self: Any, data: Any, last: Any) -> Any:
        flame = self.flame.aio
        await flame.send_intermediate_data(others(self), data)
        return sum((await flame.await_intermediate_data(others(self))).values())

    report = report_of([1, 2], analyzer(analyze), COLLECT)
    assert report.result == [2, 1]
    assert "async-method" in {finding.kind for finding in report.findings}


def test_a_blocking_call_inside_an_async_method_is_refused_in_words() -> None:
    async def analyze(self: Any, data: Any, last: Any) -> Any:
        return self.flame.await_messages(others(self), "never")

    with pytest.raises(NodeError, match=r"await self\.flame\.aio"):
        report_of([1, 2], analyzer(analyze), COLLECT)


def test_local_data_outlives_a_run_in_its_storage_dir(tmp_path: Path) -> None:
    def save(self: Any, data: Any, last: Any) -> Any:
        return self.flame.save_intermediate_data({"n": data}, "local", tag="model-1")["status"]

    def load(self: Any, data: Any, last: Any) -> Any:
        return self.flame.get_local_tags(), self.flame.get_intermediate_data("local", tag="model-1", tag_option="last")

    kept = History(storage_dir=tmp_path)
    assert report_of([1, 2], analyzer(save), COLLECT, history=kept).result == ["success"] * 2
    assert report_of([1, 2], analyzer(load), COLLECT, history=kept).result == [
        (["model-1"], [{"n": 1}]),
        (["model-1"], [{"n": 2}]),
    ]


def test_global_data_is_for_the_nodes_addressed() -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        (other,) = others(self)
        saved = self.flame.save_intermediate_data([self.id], "global", remote_node_ids=[other])[other]
        with pytest.raises(KeyError):
            self.flame.get_intermediate_data("global", query=saved["id"])
        self.flame.send_message([other], "id", {"id": saved["id"]})
        (message,) = self.flame.await_messages([other], "id")[other]
        return self.flame.get_intermediate_data("global", query=message.body["id"])

    assert report_of([1, 2], analyzer(analyze), COLLECT).result == [["node_1"], ["node_0"]]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda flame: flame.send_message("node_1", "c", {}), "a list of participant ids is wanted"),
        (lambda flame: flame.send_message(["nobody"], "c", {}), "nobody"),
        (lambda flame: flame.send_message(["node_1"], "c", {"meta": 1}), "reserved"),
        (lambda flame: flame.send_message(["node_1"], "c", {"x": object()}), "JSON"),
        (lambda flame: flame.save_intermediate_data(1, "global"), "remote_node_ids"),
        (lambda flame: flame.save_intermediate_data(1, "local", tag="Bad Tag"), "lower-case"),
        (lambda flame: flame.submit_final_result(1), "for the aggregator"),
    ],
)
def test_bad_input_is_refused_in_words(call: Any, text: str) -> None:
    with pytest.raises(NodeError, match=text):
        report_of([1], analyzer(lambda self, data, last: call(self.flame)), COLLECT)


def test_progress_goes_up_only() -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        for value in (20.9, 10, 200, 40):
            self.flame.set_progress(value)
        return self.flame.get_progress()

    report = report_of([1], analyzer(analyze), COLLECT)
    assert report.result == [40]
    assert report.nodes[0].progress == 40


def test_logs_carry_node_role_round_and_type_and_append_continues_a_line() -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        self.flame.flame_log("first", log_type="notice")
        self.flame.flame_log(" and more", append=True)
        return 1

    (log,) = report_of([1], analyzer(analyze), COLLECT).logs
    assert (log.node_id, log.role, log.round, log.log_type, log.message) == (
        "node_0",
        "default",
        0,
        "notice",
        "first and more",
    )


@pytest.mark.parametrize("log_type", ["error", "normal", "shout"])
def test_log_types_that_stop_a_node_on_flame_are_findings(log_type: str) -> None:
    def analyze(self: Any, data: Any, last: Any) -> Any:
        self.flame.flame_log("x", log_type=log_type)
        return 1

    report = report_of([1], analyzer(analyze), COLLECT)
    assert [finding.kind for finding in report.findings] == ["log-error"]


def test_a_name_that_flame_does_not_have_is_a_finding_and_an_attribute_error() -> None:
    with pytest.raises(NodeError, match="answers to") as caught:
        report_of([1], analyzer(lambda self, data, last: self.flame.aggregator_id), COLLECT)
    assert caught.value.report is not None
    assert [finding.kind for finding in caught.value.report.findings] == ["unknown-name"]


def test_s3_data_is_filtered_by_name() -> None:
    split = [{"a.csv": b"1", "b.csv": b"2"}]
    probe = analyzer(lambda self, data, last: (self.flame.get_s3_data(["b.csv"]), self.flame.get_fhir_data(["q"])))
    assert report_of([split], probe, COLLECT).result == [([{"b.csv": b"2"}], [{}])]


def test_submit_final_result_releases_through_the_same_pipeline(tmp_path: Path) -> None:
    def aggregate(self: Any, results: Any) -> Any:
        assert self.flame.submit_final_result([1, 2], filename=str(tmp_path / "early.txt")) == {"status": "success"}
        return 3

    report = report_of([1], analyzer(lambda self, data, last: 1), aggregator(aggregation_method=aggregate))
    assert [output.value for output in report.outputs] == ["[1, 2]", "3"]
    assert (tmp_path / "early.txt").read_text() == "[1, 2]"
