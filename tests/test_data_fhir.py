"""Against a small FHIR server on loopback: real HTTP, real paging."""

from __future__ import annotations

import functools
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.from_thread
import anyio.lowlevel
import httpx
import pytest

from star_actors.data import FhirError, afrom_fhir, from_fhir
from star_actors.errors import ConfigurationError

PATIENTS = [{"resource": {"resourceType": "Patient", "id": str(number)}} for number in range(7)]


class Server(ThreadingHTTPServer):
    """Serves PATIENTS in pages of `_count`; `answers` replaces the answer to the request of that number, from 0."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server_address[1]}/fhir"
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.answers: dict[int, Callable[[Handler], None]] = {}
        self.next_link = self.base + "/{next}"
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = 5

    def do_GET(self) -> None:
        with self.server.lock:
            number = len(self.server.asked)
            self.server.asked.append(self.path)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.server.answers.get(number, Handler.page)(self)

    def page(self) -> None:
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/fhir/Patient/1":
            return self.send({"resourceType": "Patient", "id": "1"})
        if address.path == "/fhir/Empty":
            return self.send({"resourceType": "Bundle", "type": "searchset", "total": 0})
        size, start = int(asked.get("_count", 3)), int(asked.get("_offset", 0))
        end = start + size
        links = [{"relation": "self", "url": f"{self.server.base}/{self.path.removeprefix('/fhir/')}"}]
        if start:
            links.append({"relation": "previous", "url": "x"})
        if end < len(PATIENTS):
            following = self.server.next_link.format(next=f"Patient?_count={size}&_offset={end}")
            links.append({"relation": "next", "url": following})
        return self.send(
            {
                "resourceType": "Bundle",
                "type": "searchset",
                "total": len(PATIENTS),
                "link": links,
                "entry": PATIENTS[start:end],
            }
        )

    def send(self, body: Any, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def fails(status: int, body: Any = b"", **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.send(body, status, **headers)


def answers(body: Any) -> Callable[[Handler], None]:
    return lambda handler: handler.send(body)


def cut_off(handler: Handler) -> None:
    """Promise more bytes than come."""
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"resourceType": "Bundle", "entry": [')
    handler.close_connection = True


def reset(handler: Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=functools.partial(made.serve_forever, poll_interval=0.02))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


Read = Callable[..., Any]


def read_async(*args: Any, **options: Any) -> Any:
    with anyio.from_thread.start_blocking_portal() as portal:
        return portal.call(functools.partial(afrom_fhir, *args, **options))


@pytest.fixture(params=[from_fhir, read_async], ids=["from_fhir", "afrom_fhir"])
def read(request: pytest.FixtureRequest) -> Read:
    """Both twins: what is promised of one holds of the other. Waits between tries are cut to nothing."""
    return functools.partial(request.param, backoff=0)


def test_each_server_becomes_one_split_with_one_bundle_per_query(read: Read, server: Server) -> None:
    splits = read([server.base, server.base + "/"], ["Patient?_count=10", "Patient/1"])
    assert [list(source) for (source,) in splits] == [["Patient?_count=10", "Patient/1"]] * 2
    assert splits[0] == splits[1]
    assert splits[0][0]["Patient?_count=10"]["entry"] == PATIENTS


def test_one_address_and_one_query_may_be_given_bare(read: Read, server: Server) -> None:
    ((source,),) = read(server.base, "Patient?_count=10")
    assert source["Patient?_count=10"]["entry"] == PATIENTS


def test_pages_are_merged_into_one_bundle_without_a_next_link(read: Read, server: Server) -> None:
    ((source,),) = read(server.base, "Patient?_count=3")
    bundle = source["Patient?_count=3"]
    assert bundle["entry"] == PATIENTS
    assert bundle["total"] == 7
    assert bundle["link"] == [{"relation": "self", "url": f"{server.base}/Patient?_count=3"}]
    assert len(server.asked) == 3


@pytest.mark.parametrize("link", ["{next}", "/fhir/{next}", "../fhir/{next}", "//{netloc}/fhir/{next}"])
def test_relative_next_links_are_followed(read: Read, server: Server, link: str) -> None:
    server.next_link = link.replace("{netloc}", urlsplit(server.base).netloc)
    ((source,),) = read(server.base, "Patient?_count=2")
    assert source["Patient?_count=2"]["entry"] == PATIENTS


def test_a_cap_on_pages_keeps_the_next_link(read: Read, server: Server) -> None:
    ((source,),) = read(server.base, "Patient?_count=3", max_pages=2)
    bundle = source["Patient?_count=3"]
    assert bundle["entry"] == PATIENTS[:6]
    assert bundle["link"][-1] == {"relation": "next", "url": f"{server.base}/Patient?_count=3&_offset=6"}
    assert len(server.asked) == 2


def test_one_page_is_handed_over_as_the_server_gave_it(read: Read, server: Server) -> None:
    ((source,),) = read(server.base, "Patient?_count=3", max_pages=1)
    assert source["Patient?_count=3"] == httpx.get(f"{server.base}/Patient?_count=3").json()


def test_an_empty_result_is_a_bundle_without_entries(read: Read, server: Server) -> None:
    ((source,),) = read(server.base, "Empty")
    assert source["Empty"] == {"resourceType": "Bundle", "type": "searchset", "total": 0}


def test_headers_and_credentials_go_with_every_page(read: Read, server: Server) -> None:
    read(server.base, "Patient?_count=3", headers={"apikey": "k"}, auth=("user", "password"))
    assert [asked["apikey"] for asked in server.headers] == ["k"] * 3
    assert {asked["authorization"] for asked in server.headers} == {"Basic dXNlcjpwYXNzd29yZA=="}
    assert {asked["accept"] for asked in server.headers} == {"application/fhir+json, application/json"}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_overload_and_server_faults_are_tried_again(read: Read, server: Server, status: int) -> None:
    server.answers = {1: fails(status), 2: fails(status, Retry_After="0")}
    ((source,),) = read(server.base, "Patient?_count=4", backoff=0)
    assert source["Patient?_count=4"]["entry"] == PATIENTS
    assert len(server.asked) == 4


@pytest.mark.parametrize("broken", [cut_off, reset])
def test_broken_connections_are_tried_again(read: Read, server: Server, broken: Callable[[Handler], None]) -> None:
    server.answers = {1: broken}
    ((source,),) = read(server.base, "Patient?_count=4")
    assert source["Patient?_count=4"]["entry"] == PATIENTS


def test_retry_after_beyond_max_wait_ends_the_read_at_once(read: Read, server: Server) -> None:
    server.answers = {0: fails(503, Retry_After="7200")}
    with pytest.raises(FhirError, match=r"HTTP 503 .*it asks to wait 7200 s, max_wait is 60 s"):
        read(server.base, "Patient")
    assert len(server.asked) == 1


def test_a_page_that_keeps_failing_tells_the_page_and_what_was_read(read: Read, server: Server) -> None:
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "fatal", "code": "exception", "diagnostics": "disk full"}],
    }
    server.answers = {number: fails(500, outcome) for number in range(2, 10)}
    with pytest.raises(FhirError) as caught:
        read(server.base, ["Patient/1", "Patient?_count=3"], max_attempts=3)
    error = caught.value
    assert f"page 2 of 'Patient?_count=3' at {server.base} failed: HTTP 500" in str(error)
    assert "(after 3 attempts): fatal (exception): disk full" in str(error)
    assert "1 page with 3 entries had been read" in str(error)
    assert (error.base_url, error.query, error.page, error.status) == (server.base, "Patient?_count=3", 2, 500)
    assert error.partial is not None
    assert error.partial["entry"] == PATIENTS[:3]
    assert len(server.asked) == 5


def test_a_page_cut_off_each_time_is_an_error_not_a_short_bundle(read: Read, server: Server) -> None:
    server.answers = dict.fromkeys(range(2, 10), cut_off)
    with pytest.raises(FhirError, match=r"page 3 of .* failed: no answer in 2 attempts: .*body") as caught:
        read(server.base, "Patient?_count=3", max_attempts=2)
    assert caught.value.partial is not None
    assert len(caught.value.partial["entry"]) == 6
    assert isinstance(caught.value.__cause__, httpx.RemoteProtocolError)


def test_a_server_that_is_not_there_is_an_error_that_names_it(read: Read) -> None:
    with pytest.raises(
        FhirError, match=r"page 1 of 'Patient' at http://127\.0\.0\.1:9/fhir failed: no answer"
    ) as caught:
        read("http://127.0.0.1:9/fhir", "Patient", max_attempts=2)
    assert caught.value.partial is None


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refused_query_shows_the_servers_diagnostics_and_is_not_repeated(
    read: Read, server: Server, status: int
) -> None:
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "invalid", "diagnostics": "Unknown search parameter 'colour'"}],
    }
    server.answers = {0: fails(status, outcome)}
    with pytest.raises(FhirError, match=rf"HTTP {status} .*error \(invalid\): Unknown search parameter 'colour'"):
        read(server.base, "Patient?colour=red")
    assert len(server.asked) == 1


def test_an_outcome_with_status_200_is_an_error_too(read: Read, server: Server) -> None:
    server.answers = {0: answers({"resourceType": "OperationOutcome", "issue": []})}
    with pytest.raises(FhirError, match="answered with an OperationOutcome: an OperationOutcome without any issue"):
        read(server.base, "Patient")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"resourceType": "Bundle", "entry": [', r"its 37 bytes \(application/fhir\+json\) do not parse as JSON"),
        (b"\xff\xfe\xfa", "do not parse as JSON"),
        (b"[1]", "it is a JSON list without resourceType"),
        (b'{"a": 1}', "it is a JSON dict without resourceType"),
        ({"resourceType": "Patient"}, "it is a Patient, a Bundle is wanted"),
        ({"resourceType": "Bundle", "entry": {}}, "its 'entry' is of type dict"),
        ({"resourceType": "Bundle", "link": [{"relation": "next"}]}, "its next link has no 'url'"),
    ],
    ids=str,
)
def test_a_second_page_that_is_no_bundle_is_an_error(read: Read, server: Server, body: Any, said: str) -> None:
    server.answers = {1: answers(body)}
    with pytest.raises(FhirError, match=rf"page 2 of 'Patient' .*{said}"):
        read(server.base, "Patient")


@pytest.mark.parametrize(
    "link", ["http://127.0.0.1:9/fhir/{next}", "https://{netloc}/fhir/{next}", "http://[::1/{next}"]
)
def test_a_next_link_to_another_server_is_an_error_and_is_not_followed(read: Read, server: Server, link: str) -> None:
    server.next_link = link.replace("{netloc}", urlsplit(server.base).netloc)
    with pytest.raises(
        FhirError, match=r"page 1 of 'Patient' .*its next link (leads to another server|is not an addr)"
    ):
        read(server.base, "Patient", auth=("user", "password"))
    assert len(server.asked) == 1


def test_a_next_link_in_a_circle_is_an_error_not_a_hang(read: Read, server: Server) -> None:
    server.next_link = server.base + "/Patient?_count=3"
    with pytest.raises(FhirError, match=r"page 1 of .*its next link leads back to"):
        read(server.base, "Patient?_count=3")


def test_a_redirect_is_an_error_that_says_where_to(read: Read, server: Server) -> None:
    server.answers = {0: fails(301, Location="https://elsewhere.example/fhir/Patient")}
    with pytest.raises(FhirError, match=r"HTTP 301 .*to https://elsewhere\.example/fhir/Patient; use the base address"):
        read(server.base, "Patient")


def test_special_characters_in_a_query_reach_the_server(read: Read, server: Server) -> None:
    query = "Patient?identifier=http://example.org|äb c"
    ((source,),) = read(server.base, query)
    assert query in source
    assert parse_qs(urlsplit(server.asked[0]).query)["identifier"] == ["http://example.org|äb c"]


def test_a_client_of_ones_own_is_used_and_left_open(server: Server) -> None:
    with httpx.Client(headers={"apikey": "own"}) as client:
        from_fhir(server.base, "Patient/1", client=client)
        from_fhir(server.base, "Patient/1", client=client)
    assert [asked["apikey"] for asked in server.headers] == ["own", "own"]


async def test_an_async_client_of_ones_own_is_used_and_left_open(server: Server) -> None:
    async with httpx.AsyncClient(headers={"apikey": "own"}) as client:
        await afrom_fhir(server.base, "Patient/1", client=client)
        await afrom_fhir(server.base, "Patient/1", client=client)
    assert [asked["apikey"] for asked in server.headers] == ["own", "own"]


async def test_the_async_twin_leaves_the_loop_free(server: Server) -> None:
    went_on = threading.Event()

    def waits(handler: Handler) -> None:
        went_on.wait(5)
        handler.page()

    async def meanwhile() -> None:
        while not server.asked:
            await anyio.lowlevel.checkpoint()
        went_on.set()

    server.answers = {0: waits}
    async with anyio.create_task_group() as group:
        group.start_soon(meanwhile)
        await afrom_fhir(server.base, "Patient?_count=10")
        assert went_on.is_set()


@pytest.mark.parametrize("library", ["httpx", "tenacity"])
def test_an_absent_library_names_the_extra(read: Read, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # the import system's own way to say: not there
    with pytest.raises(ConfigurationError, match=rf"from_fhir needs {library}.*pip install 'star-actors\[fhir\]'"):
        read("http://127.0.0.1:9/fhir", "Patient")


@pytest.mark.parametrize(
    ("base_urls", "queries", "options", "said"),
    [
        ("ftp://x/fhir", "Patient", {}, r"'http://\.\.\.' or 'https://\.\.\.' is wanted"),
        ("x.example/fhir", "Patient", {}, r"'http://\.\.\.' or 'https://\.\.\.' is wanted"),
        ("http://x:port/fhir", "Patient", {}, "is not valid"),
        ("http://user:secret@x/fhir", "Patient", {}, r"give it as auth=\(user, password\)"),
        ("http://x/fhir?a=b", "Patient", {}, "ends in a query"),
        ([], "Patient", {}, r"base_urls=\[\] is given"),
        (3, "Patient", {}, "base_urls is of type int"),
        ("http://x/fhir", [], {}, r"queries=\[\] is given"),
        ("http://x/fhir", [" "], {}, r"queries=\[' '\] is given"),
        ("http://x/fhir", None, {}, "queries is of type NoneType"),
        ("http://x/fhir", "http://x/fhir/Patient", {}, "is a full address; give what stands after the base"),
        ("http://x/fhir", "Patient", {"max_pages": 0}, "max_pages=0 is given"),
        ("http://x/fhir", "Patient", {"max_attempts": True}, "max_attempts=True is given"),
        ("http://x/fhir", "Patient", {"timeout": -1}, "timeout=-1 is given"),
        ("http://x/fhir", "Patient", {"backoff": float("nan")}, "backoff=nan is given"),
        ("http://x/fhir", "Patient", {"max_wait": "long"}, "max_wait='long' is given"),
        ("http://x/fhir", "Patient", {"client": object()}, "client is of type object, an httpx"),
    ],
)
def test_wrong_arguments_are_errors_that_say_what_is_wanted(
    read: Read, base_urls: Any, queries: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read(base_urls, queries, **{"backoff": 0, **options})


def test_no_password_in_an_address_is_repeated_in_the_error(read: Read) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read("http://user:secret@x/fhir", "Patient")
    assert "secret" not in str(caught.value)


def test_a_client_together_with_headers_is_an_error() -> None:
    with httpx.Client() as client, pytest.raises(ConfigurationError, match="client is given together with headers"):
        from_fhir("http://x/fhir", "Patient", client=client, headers={"a": "b"})
