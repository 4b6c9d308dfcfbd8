"""Against moto's S3 server on loopback: real HTTP, real boto3."""

import sys
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from boto3.session import Session  # type: ignore[import-untyped, unused-ignore]
from botocore.config import Config  # type: ignore[import-untyped, unused-ignore]
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from star_actors.data import S3Error, from_s3
from star_actors.errors import ConfigurationError

CREDENTIALS = {"access_key": "key", "secret_key": "secret", "region_name": "us-east-1"}


class Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    # ThreadedMotoServer leaves its socket open, so the server is made here from the same parts.
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def new_client(endpoint: str) -> Any:
    return Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")


@pytest.fixture
def s3(endpoint: str, own_environment: None) -> Iterator[Any]:
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()
    client = new_client(endpoint)
    yield client
    client.close()


def fill(s3: Any, bucket: str, objects: dict[str, bytes]) -> None:
    s3.create_bucket(Bucket=bucket)
    for key, content in objects.items():
        s3.put_object(Bucket=bucket, Key=key, Body=content)


def read(endpoint: str, *sources: str, **options: Any) -> list[list[dict[str, bytes]]]:
    return from_s3(*sources, endpoint_url=endpoint, **{**CREDENTIALS, **options})


def test_each_bucket_becomes_one_split_with_one_source(s3: Any, endpoint: str) -> None:
    fill(s3, "one", {"data.csv": b"a\n1\n", "b/image.bin": b"\x00\xff"})
    fill(s3, "two", {"data.csv": b"a\n2\n"})
    assert read(endpoint, "one", "two") == [
        [{"b/image.bin": b"\x00\xff", "data.csv": b"a\n1\n"}],
        [{"data.csv": b"a\n2\n"}],
    ]


@pytest.mark.parametrize("source", ["one/node_1", "one/node_1/", "s3://one/node_1"])
def test_a_prefix_is_a_folder_and_names_are_relative_to_it(s3: Any, endpoint: str, source: str) -> None:
    fill(s3, "one", {"node_1/data.csv": b"1", "node_10/data.csv": b"10", "node_1": b"beside", "other.csv": b"x"})
    assert read(endpoint, source) == [[{"data.csv": b"1"}]]


def test_listings_are_read_through_all_their_pages(s3: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    objects = {f"part-{number:02}": bytes([number]) for number in range(10)}
    fill(s3, "one", objects)
    assert len(s3.list_objects_v2(Bucket="one")["Contents"]) == 3
    assert read(endpoint, "one") == [[objects]]


def test_names_are_sorted_and_survive_as_they_are(s3: Any, endpoint: str) -> None:
    objects = {"z": b"", "a b&c.csv": b"1", "größe+.csv": b"2", "A": b"3"}
    fill(s3, "one", objects)
    ((source,),) = read(endpoint, "one")
    assert source == objects
    assert list(source) == sorted(objects)


def test_markers_of_folders_are_left_out(s3: Any, endpoint: str) -> None:
    fill(s3, "one", {"node/": b"", "node/data.csv": b"x"})
    assert read(endpoint, "one") == [[{"node/data.csv": b"x"}]]
    assert read(endpoint, "one/node") == [[{"data.csv": b"x"}]]


def test_keys_keep_exact_names_and_patterns(s3: Any, endpoint: str) -> None:
    fill(s3, "one", {"a.csv": b"1", "b.csv": b"2", "c.json": b"3", "d[1].txt": b"4", "a.csv.bak": b"5"})
    assert read(endpoint, "one", keys=["*.json", "a.csv", "d[1].txt"]) == [
        [{"a.csv": b"1", "c.json": b"3", "d[1].txt": b"4"}]
    ]


def test_a_source_without_any_of_the_keys_is_an_error_that_says_what_it_has(s3: Any, endpoint: str) -> None:
    fill(s3, "one", {"data.csv": b"1"})
    fill(s3, "two", {"other.csv": b"1"})
    with pytest.raises(
        ConfigurationError, match=r"bucket 'two' holds none of keys=\['data.csv'\]; it holds 'other.csv'"
    ):
        read(endpoint, "one", "two", keys=["data.csv"])


def test_a_key_that_no_source_has_is_an_error(s3: Any, endpoint: str) -> None:
    fill(s3, "one", {"data.csv": b"1"})
    with pytest.raises(ConfigurationError, match=r"no source holds 'dta.csv'"):
        read(endpoint, "one", keys=["data.csv", "dta.csv"])


@pytest.mark.parametrize("source", ["one", "one/node_1"])
def test_a_source_without_objects_is_an_error(s3: Any, endpoint: str, source: str) -> None:
    fill(s3, "one", {} if source == "one" else {"node_10/data.csv": b"x"})
    with pytest.raises(ConfigurationError, match="bucket 'one' holds no object"):
        read(endpoint, source)


def test_a_key_that_vanishes_is_an_error_that_names_bucket_and_key(s3: Any, endpoint: str) -> None:
    fill(s3, "one", {"node/a.csv": b"1", "node/b.csv": b"2"})

    def remove(params: dict[str, Any], **_: Any) -> None:
        if params["Key"] == "node/b.csv":
            s3.delete_object(Bucket="one", Key="node/b.csv")

    s3.meta.events.register("provide-client-params.s3.GetObject", remove)
    with pytest.raises(S3Error, match=r"key 'node/b\.csv' of bucket 'one' was listed, and is gone") as caught:
        from_s3("one/node", client=s3)
    assert (caught.value.bucket, caught.value.key) == ("one", "node/b.csv")


def test_a_bucket_that_does_not_exist_is_an_error_that_names_it(s3: Any, endpoint: str) -> None:
    with pytest.raises(S3Error, match="bucket 'nowhere' does not exist there") as caught:
        read(endpoint, "nowhere")
    assert (caught.value.bucket, caught.value.key) == ("nowhere", None)


def test_a_bucket_name_that_cannot_be_is_an_error(s3: Any, endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="bucket 'no such name' cannot be listed"):
        read(endpoint, "no such name")


def test_a_client_of_ones_own_is_used_and_left_open(s3: Any, endpoint: str) -> None:
    fill(s3, "one", {"data.csv": b"1"})
    assert from_s3("one", client=s3) == [[{"data.csv": b"1"}]]
    assert s3.list_buckets()["Buckets"][0]["Name"] == "one"


def test_credentials_come_from_the_environment_too(s3: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(s3, "one", {"data.csv": b"1"})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert from_s3("one", endpoint_url=endpoint) == [[{"data.csv": b"1"}]]


def test_missing_credentials_are_an_error_that_says_what_to_give(s3: Any, endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="give access_key and secret_key, or set AWS_ACCESS_KEY_ID"):
        from_s3("one", endpoint_url=endpoint)


def test_a_service_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(S3Error, match=r"bucket 'one' cannot be listed.*127\.0\.0\.1:9"):
        read("http://127.0.0.1:9", "one", max_attempts=1)


def test_a_failing_service_is_asked_again(s3: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(s3, "one", {"data.csv": b"1"})
    asked: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        start_response("503 Slow Down", [("Content-Type", "text/plain")])
        return [b""]

    monkeypatch.setattr("random.random", lambda: 0.0)  # the wait before botocore's next try is a random part of 1 s
    server = make_server("127.0.0.1", 0, app, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(S3Error, match=r"bucket 'one' cannot be listed.*503"):
            read(f"http://127.0.0.1:{server.server_port}", "one", max_attempts=3)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked == ["/one"] * 3


def test_an_absent_boto3_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)  # the import system's own way to say: not there
    with pytest.raises(ConfigurationError, match=r"from_s3 needs boto3.*pip install 'star-actors\[s3\]'"):
        from_s3("one")


@pytest.mark.parametrize(
    ("sources", "options", "said"),
    [
        ((), {}, "no source, one per node"),
        ((["one"],), {}, r"was given list.*\*sources"),
        (("/prefix",), {}, "'bucket' or 'bucket/prefix' is wanted"),
        (("",), {}, "'bucket' or 'bucket/prefix' is wanted"),
        (("https://x/one",), {}, "'bucket' or 'bucket/prefix' is wanted"),
        (("one",), {"keys": "data.csv"}, "a list of names is wanted"),
        (("one",), {"keys": [3]}, "a list of names is wanted"),
        (("one",), {"access_key": "key"}, "one of access_key and secret_key"),
        (("one",), {"max_attempts": 0}, "max_attempts=0"),
        (("one",), {"timeout": "soon"}, "timeout='soon'"),
        (("one",), {"endpoint_url": "localhost"}, "endpoint_url='localhost' is not an address"),
        (("one",), {"client": object(), "access_key": "key"}, "client is given together"),
    ],
)
def test_wrong_arguments_are_errors_that_say_what_is_wanted(
    sources: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        from_s3(*sources, **options)
