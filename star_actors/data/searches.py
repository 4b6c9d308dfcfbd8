"""A FHIR search without its I/O: which pages to ask for, what they must be, and the one bundle they make."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from star_actors.errors import ConfigurationError
from star_actors.options import is_number

from .bundles import entries_of, is_bundle, next_url, outcome_text
from .errors import FhirError
from .retries import is_transient, is_transient_status, retry_after

if TYPE_CHECKING:
    import httpx

__all__ = ["Plan", "Search", "Splits"]

Splits = list[list[dict[str, dict[str, Any]]]]

_PAGING = frozenset({"next", "last", "previous", "prev"})


@dataclass(frozen=True)
class Plan:
    """What is to be read, without any I/O, for any client: `steps` yields addresses and is sent the responses."""

    base_urls: tuple[str, ...]
    queries: tuple[str, ...]
    max_pages: int | None
    max_attempts: int
    backoff: float
    max_wait: float

    @classmethod
    def checked(
        cls,
        base_urls: object,
        queries: object,
        max_pages: object,
        timeout: object,
        max_attempts: object,
        backoff: object,
        max_wait: object,
    ) -> Plan:
        """The plan of these arguments of `from_fhir`; raises ConfigurationError for the first that is wrong."""
        bases = _texts("base_urls", base_urls, "a server's FHIR base address, e.g. 'https://fhir.example.org/fhir'")
        for base in bases:
            _check_base(base)
        asked = _texts("queries", queries, "a search below the base address, e.g. 'Patient?_count=100'")
        for query in asked:
            if urlsplit(query).scheme:
                raise ConfigurationError(f"the query {query!r} is a full address; give what stands after the base")
        for name, number, least in (("max_pages", max_pages, 1), ("max_attempts", max_attempts, 1)):
            if number is None and name == "max_pages":
                continue
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ConfigurationError(f"{name}={number!r} is given, a whole number from {least} is wanted")
        for name, seconds in (("backoff", backoff), ("max_wait", max_wait), ("timeout", timeout)):
            if seconds is None and name == "timeout":
                continue
            if not is_number(seconds) or not 0 <= seconds < float("inf"):  # type: ignore[operator]
                raise ConfigurationError(f"{name}={seconds!r} is given, a number of seconds from 0 is wanted")
        return cls(bases, asked, max_pages, max_attempts, backoff, max_wait)  # type: ignore[arg-type]

    def steps(self) -> Generator[httpx.URL | Splits, httpx.Response, None]:
        """Yield each address to get; be sent its response, or thrown the httpx error; yield the splits at last."""
        splits: Splits = []
        for base in self.base_urls:
            answers: dict[str, dict[str, Any]] = {}
            for query in self.queries:
                answers[query] = yield from Search(self, base, query).steps()
            splits.append([answers])
        yield splits


class Search:
    """One query at one server: its pages so far, and the error that names them."""

    def __init__(self, plan: Plan, base: str, query: str) -> None:
        self.plan = plan
        self.base = base
        self.query = query
        self.pages: list[dict[str, Any]] = []

    def steps(self) -> Generator[httpx.URL, httpx.Response, dict[str, Any]]:
        """Yield the address of each page; be sent its response, or thrown the httpx error; return the bundle."""
        import httpx

        try:
            url = httpx.URL(f"{self.base.rstrip('/')}/{self.query.lstrip('/')}")
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"{self.query!r} below {self.base!r} is not an address: {error}") from error
        seen = {url}
        while True:
            try:
                response = yield url
            except httpx.HTTPError as error:
                tried = f" in {_times(self.plan.max_attempts)}" if is_transient(error) else ""
                raise self.error(f"no answer{tried}: {error or type(error).__name__}") from error
            following = self.take(response)
            if following is None or len(self.pages) == self.plan.max_pages:
                return _merged(self.pages)
            url = self.resolved(response.url, following)
            if url in seen:
                raise self.error(f"its next link leads back to {url}, which has been read", page=len(self.pages))
            seen.add(url)

    def take(self, response: httpx.Response) -> str | None:
        """Add the page in `response`; return the link to the next one."""
        resource = self.parsed(response)
        if self.pages and not is_bundle(resource):
            raise self.error(f"it is a {resource.get('resourceType')}, a Bundle is wanted", response)
        if is_bundle(resource):
            try:
                entries_of(resource)
                following = next_url(resource)
            except ValueError as error:
                raise self.error(str(error), response) from error
        else:
            following = None  # a read, not a search
        self.pages.append(resource)
        return following

    def parsed(self, response: httpx.Response) -> dict[str, Any]:
        try:
            resource = response.json()
        except (ValueError, RecursionError) as error:
            resource = None
            unparsed: Exception | None = error
        else:
            unparsed = None
        outcome = outcome_text(resource)
        if not response.is_success:
            said = f": {outcome}" if outcome else ""
            status = f"HTTP {response.status_code} {response.reason_phrase}".strip()
            raise self.error(f"{status}{self.advice(response)}{said}", response)
        if unparsed is not None:
            kind = response.headers.get("content-type", "no content type")
            size = len(response.content)
            raise self.error(f"its {size} bytes ({kind}) do not parse as JSON: {unparsed}", response) from unparsed
        if outcome is not None:
            raise self.error(f"the server answered with an OperationOutcome: {outcome}", response)
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            raise self.error(f"it is a JSON {type(resource).__name__} without resourceType, not FHIR", response)
        return resource

    def advice(self, response: httpx.Response) -> str:
        if response.is_redirect:
            target = response.headers.get("location", "nowhere")
            return f" to {target}; use the base address that the server itself uses, or a client that follows redirects"
        if not is_transient_status(response.status_code):
            return ""
        asked = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        if asked is not None and asked > self.plan.max_wait:
            return f" (it asks to wait {asked:.0f} s, max_wait is {self.plan.max_wait:g} s)"
        return f" (after {_times(self.plan.max_attempts)})"

    def resolved(self, page: httpx.URL, link: str) -> httpx.URL:
        import httpx

        number = len(self.pages)
        try:
            url = page.join(link)
        except httpx.InvalidURL as error:
            raise self.error(f"its next link is not an address: {error}", page=number) from error
        if (url.scheme, url.host, _port(url)) != (page.scheme, page.host, _port(page)):
            raise self.error(
                f"its next link leads to another server, {url.scheme}://{url.netloc.decode()}; the server at "
                f"{self.base} has to know its public address for its links",
                page=number,
            )
        return url

    def error(self, reason: str, response: httpx.Response | None = None, *, page: int | None = None) -> FhirError:
        number = page or len(self.pages) + 1
        before = self.pages[: number - 1]
        text = f"page {number} of {self.query!r} at {self.base} failed: {reason}"
        partial = _merged(before) if before else None
        if partial is not None:
            read = len(entries_of(partial))
            text += (
                f". {_count(len(before), 'page')} with {_count(read, 'entry', 'entries')} had been read "
                f"(the error's `partial`); no split is handed over"
            )
        status = None if response is None else response.status_code
        return FhirError(text, base_url=self.base, query=self.query, page=number, status=status, partial=partial)


def _merged(pages: list[dict[str, Any]]) -> dict[str, Any]:
    """One bundle of all pages: the first one's, with every entry; a next link only where pages are missing."""
    first = pages[0]
    if len(pages) == 1:
        return first
    merged = dict(first)
    entries = [entry for page in pages for entry in entries_of(page)]
    if entries:
        merged["entry"] = entries
    links = [link for link in first.get("link", []) if link.get("relation") not in _PAGING]
    links += [link for link in pages[-1].get("link", []) if link.get("relation") == "next"]
    merged["link"] = links
    return merged


def _check_base(base: str) -> None:
    try:
        parts = urlsplit(base)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"the base address {base!r} is not valid: {error}") from error
    if not known:
        raise ConfigurationError(f"the base address {base!r} is given, 'http://...' or 'https://...' is wanted")
    if parts.username is not None:  # it would show in errors, and be missing from next links
        raise ConfigurationError("a base address holds a user name; give it as auth=(user, password)")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"the base address {base!r} ends in a query; give it in queries")


def _texts(name: str, given: object, wanted: str) -> tuple[str, ...]:
    if isinstance(given, str):
        values: tuple[object, ...] = (given,)
    elif isinstance(given, Iterable) and not isinstance(given, bytes | dict):
        values = tuple(given)
    else:
        raise ConfigurationError(f"{name} is of type {type(given).__name__}, {wanted}, or a list of them is wanted")
    texts = tuple(value for value in values if isinstance(value, str) and value.strip())
    if len(texts) != len(values) or not texts:
        raise ConfigurationError(f"{name}={given!r} is given, {wanted}, or a list of them is wanted")
    return texts


def _port(url: httpx.URL) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)


def _times(number: int) -> str:
    return _count(number, "attempt")


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
