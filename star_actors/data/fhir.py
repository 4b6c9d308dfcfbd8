"""FHIR servers as data_splits: searches followed through all their pages, whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from star_actors.errors import ConfigurationError

from .extras import load_extra
from .retries import retry_policy
from .searches import Plan, Splits

if TYPE_CHECKING:
    import httpx

__all__ = ["afrom_fhir", "from_fhir"]


def from_fhir(
    base_urls: str | Iterable[str],
    queries: str | Iterable[str],
    *,
    max_pages: int | None = None,
    headers: dict[str, str] | None = None,
    auth: httpx.Auth | tuple[str, str] | None = None,
    timeout: float | None = 30.0,
    max_attempts: int = 5,
    backoff: float = 0.5,
    max_wait: float = 60.0,
    client: httpx.Client | None = None,
) -> Splits:
    """Read the answers to FHIR queries from one server per node, as FLAME gives them to an analyzer.

    Arguments:
        base_urls: the FHIR base address of each node's server, such as "https://fhir.example.org/fhir"; a single one
            makes a single split.
        queries: searches or reads below the base, such as "Patient?_count=100"; every server is asked each of them.
        max_pages: the most pages to read of one query; None reads them all. FLAME itself hands over the first page
            (`max_pages=1`). A bundle that was cut off so keeps the `next` link of the last page read.
        headers, auth: sent with every request; `auth` is a (user, password) pair or an `httpx.Auth`.
        timeout: seconds for connecting, and for each wait on the socket; None waits without limit.
        max_attempts: the most tries of one request. Tried again are lost connections, timeouts, and the answers
            429 and 5xx.
        backoff: seconds before the second try; doubled, with a random part, for each further one.
        max_wait: the longest wait in seconds. A server's Retry-After is honoured up to it; a longer one ends the read.
        client: an `httpx.Client` of your own instead of `headers`, `auth` and `timeout`, for certificates and proxies;
            it is left open.

    Returns one split per base address, `[{query: bundle}]`. The pages of a query are merged into one bundle: the
    first page with the entries of all. A read ("Patient/1") gives the resource itself.

    Raises ConfigurationError for arguments that are wrong, and where httpx or tenacity is missing
    (`pip install 'star-actors[fhir]'`); FhirError where a page cannot be read, with the server's OperationOutcome, the
    number of the page and what had been read before it. FLAME leaves a failed query out of its dict; here it ends the
    read, so that no split is short of anything. `next` links may be relative, and may not lead to another server,
    which would be sent the credentials.

    Source: HL7 FHIR R4, RESTful API, search and paging (http://hl7.org/fhir/R4/http.html#paging).
    """
    plan = Plan.checked(base_urls, queries, max_pages, timeout, max_attempts, backoff, max_wait)
    _check_libraries()
    import httpx
    import tenacity

    retrying = tenacity.Retrying(**retry_policy(max_attempts, backoff, max_wait))
    with _open(httpx.Client, client, headers, auth, timeout) as http, contextlib.closing(plan.steps()) as steps:
        step = next(steps)
        while not isinstance(step, list):
            try:
                response = retrying(http.get, step)
            except httpx.HTTPError as error:
                step = steps.throw(error)
            else:
                step = steps.send(response)
    return step


async def afrom_fhir(
    base_urls: str | Iterable[str],
    queries: str | Iterable[str],
    *,
    max_pages: int | None = None,
    headers: dict[str, str] | None = None,
    auth: httpx.Auth | tuple[str, str] | None = None,
    timeout: float | None = 30.0,  # noqa: ASYNC109, of each wait on the socket, not of the call
    max_attempts: int = 5,
    backoff: float = 0.5,
    max_wait: float = 60.0,
    client: httpx.AsyncClient | None = None,
) -> Splits:
    """`from_fhir` for async code: the same arguments, splits and errors; `client` is an `httpx.AsyncClient`."""
    plan = Plan.checked(base_urls, queries, max_pages, timeout, max_attempts, backoff, max_wait)
    _check_libraries()
    import anyio
    import httpx
    import tenacity

    retrying = tenacity.AsyncRetrying(sleep=anyio.sleep, **retry_policy(max_attempts, backoff, max_wait))
    async with _open(httpx.AsyncClient, client, headers, auth, timeout) as http:
        with contextlib.closing(plan.steps()) as steps:
            step = next(steps)
            while not isinstance(step, list):
                try:
                    response: httpx.Response = await retrying(http.get, step)
                except httpx.HTTPError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(response)
    return step


def _check_libraries() -> None:
    for module in ("httpx", "tenacity"):
        load_extra(module, "fhir", "from_fhir")


def _open(kind: type[Any], given: Any, headers: Any, auth: Any, timeout: float | None) -> Any:
    """A context manager that gives the client: one of ours, closed at its end, or the caller's, left open."""
    if given is None:
        accepted = {"Accept": "application/fhir+json, application/json"} | (headers or {})
        return kind(headers=accepted, auth=auth, timeout=timeout)
    if not isinstance(given, kind):
        raise ConfigurationError(f"client is of type {type(given).__name__}, an httpx.{kind.__name__} is wanted")
    if headers is not None or auth is not None:
        raise ConfigurationError("client is given together with headers or auth; give them to the client")
    return contextlib.nullcontext(given)
