from datetime import UTC, datetime

import httpx
import pytest
import tenacity

from star_actors.data.retries import is_transient, is_transient_status, retry_after, retry_policy

NOW = datetime(2024, 5, 17, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Fri, 17 May 2024 12:01:30 GMT", 90.0),
        ("Fri, 17 May 2024 12:01:30 -0000", 90.0),
        ("Fri, 17 May 2024 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "again"), [(429, True), (500, True), (503, True), (200, False), (301, False), (404, False)]
)
def test_only_overload_and_server_faults_are_tried_again(status: int, again: bool) -> None:
    assert is_transient_status(status) is again


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (httpx.ConnectError("x"), True),
        (httpx.ReadTimeout("x"), True),
        (httpx.RemoteProtocolError("x"), True),
        (httpx.UnsupportedProtocol("x"), False),
        (httpx.LocalProtocolError("x"), False),
        (httpx.DecodingError("x"), False),
        (ValueError("x"), False),
    ],
)
def test_only_errors_of_the_way_are_tried_again(error: Exception, again: bool) -> None:
    assert is_transient(error) is again


def ended_with(response: httpx.Response, attempt: int) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    state.set_result(response)
    return state


def test_the_wait_is_what_the_server_asks_for() -> None:
    policy = retry_policy(max_attempts=5, backoff=0.5, max_wait=60)
    assert policy["wait"](ended_with(httpx.Response(503, headers={"Retry-After": "7"}), 1)) == 7


@pytest.mark.parametrize(("attempt", "least", "most"), [(1, 0.5, 1.0), (2, 1.0, 1.5), (3, 2.0, 2.5), (30, 60, 60)])
def test_the_wait_doubles_up_to_its_limit_where_the_server_asks_nothing(
    attempt: int, least: float, most: float
) -> None:
    policy = retry_policy(max_attempts=50, backoff=0.5, max_wait=60)
    assert least <= policy["wait"](ended_with(httpx.Response(503), attempt)) <= most


def test_it_stops_at_the_last_attempt_or_when_told_to_wait_too_long() -> None:
    stop = retry_policy(max_attempts=3, backoff=0.5, max_wait=60)["stop"]
    assert not stop(ended_with(httpx.Response(503), 2))
    assert stop(ended_with(httpx.Response(503), 3))
    assert stop(ended_with(httpx.Response(503, headers={"Retry-After": "61"}), 1))
