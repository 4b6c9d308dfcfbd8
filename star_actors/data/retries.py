"""When an HTTP request is tried again, and how long to wait before: tenacity's strategies for FHIR servers."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx
    import tenacity

__all__ = ["is_transient", "is_transient_status", "retry_after", "retry_policy"]


def is_transient_status(status: int) -> bool:
    """Whether a request answered with `status` is worth another try: 429 (too many requests) and 5xx."""
    return status == 429 or status >= 500


def is_transient(error: BaseException) -> bool:
    """Whether `error` came from the way to the server and back, not from a request that can never be sent."""
    import httpx

    return isinstance(error, httpx.TransportError) and not isinstance(
        error, httpx.UnsupportedProtocol | httpx.LocalProtocolError
    )


def retry_after(value: str | None, now: datetime) -> float | None:
    """The seconds that a Retry-After header asks to wait from `now`, never below 0; None where it says nothing usable.

    Source: RFC 9110, section 10.2.3: a number of seconds or a date.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def retry_policy(max_attempts: int, backoff: float, max_wait: float) -> dict[str, Any]:
    """The keyword arguments of tenacity's `Retrying` and `AsyncRetrying` for a GET.

    At most `max_attempts` tries. The wait before the next is what Retry-After asks for; else it doubles from `backoff`
    seconds, with a random part, up to `max_wait`. A server that asks for more than `max_wait` is not asked again.
    The last try's answer or error is what the call ends with.
    """
    import tenacity

    growing = tenacity.wait_exponential(multiplier=backoff, max=max_wait) + tenacity.wait_random(0, backoff)

    def wait(state: tenacity.RetryCallState) -> float:
        asked = _asked_for(state)
        return min(growing(state), max_wait) if asked is None else asked

    def stop(state: tenacity.RetryCallState) -> bool:
        asked = _asked_for(state)
        return state.attempt_number >= max_attempts or (asked is not None and asked > max_wait)

    def ended(state: tenacity.RetryCallState) -> httpx.Response:
        outcome: Any = state.outcome  # never None once a try has ended
        response: httpx.Response = outcome.result()
        return response

    return {
        "retry": tenacity.retry_if_exception(is_transient)
        | tenacity.retry_if_result(lambda response: is_transient_status(response.status_code)),
        "stop": stop,
        "wait": wait,
        "retry_error_callback": ended,
    }


def _asked_for(state: tenacity.RetryCallState) -> float | None:
    outcome = state.outcome
    if outcome is None or outcome.failed:
        return None
    return retry_after(outcome.result().headers.get("retry-after"), datetime.now(UTC))
