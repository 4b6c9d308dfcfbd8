"""S3 buckets as data_splits, through boto3."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from star_actors.errors import ConfigurationError
from star_actors.options import is_number

from .errors import S3Error
from .extras import load_extra

__all__ = ["from_s3"]

_READERS = 8  # objects read at a time; below the 10 connections that botocore keeps


def from_s3(
    *sources: str,
    keys: Iterable[str] = (),
    endpoint_url: str | None = None,
    region_name: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    session_token: str | None = None,
    timeout: float = 60.0,
    max_attempts: int = 5,
    client: Any = None,
) -> list[list[dict[str, bytes]]]:
    """Read one bucket, or one folder of a bucket, per node, as FLAME gives them to an analyzer.

    Arguments:
        sources: one for each node: "bucket", "bucket/prefix" or "s3://bucket/prefix". A prefix is a folder: "b/node_1"
            holds "node_1/data.csv", and not "node_10/data.csv".
        keys: the names to read, as in FLAME's `get_s3_data(keys)`; empty reads all. A name may be a pattern such as
            "*.csv". Names are those in the result, so relative to the prefix.
        endpoint_url: the address of an S3 service other than AWS, e.g. "http://localhost:9000"; its buckets are then
            addressed by path.
        region_name, access_key, secret_key, session_token: where these are left out, boto3 looks in its usual places
            (environment, configuration files, the machine's role).
        timeout: seconds for connecting, and for each wait on the socket.
        max_attempts: the most tries of one request; botocore's "standard" retries, with growing waits.
        client: a boto3 S3 client of your own instead of all of these options, e.g. for unsigned requests.

    Returns one split per source, `[{name: bytes}]`, names sorted and relative to the prefix. Empty objects whose key
    ends in "/", which stand for folders, are left out.

    Raises ConfigurationError for arguments that are wrong, missing credentials, a source that holds nothing of what is
    asked, a name in `keys` that no source has, and where boto3 is missing (`pip install 'star-actors[s3]'`); S3Error,
    which names bucket and key, where a listing or an object cannot be read: also for a key that was listed and is gone
    when it is to be read. No split is handed over then, so none is short of files.

    Source: FLAME's `get_s3_data`; Amazon S3 API, ListObjectsV2 and GetObject.
    """
    places = [_Place.of(source) for source in sources]
    if not places:
        raise ConfigurationError("from_s3() was given no source, one per node is wanted, e.g. 'bucket/prefix'")
    wanted = _patterns(keys)
    load_extra("boto3", "s3", "from_s3")
    if client is None:
        options = {
            "region_name": region_name,
            "aws_access_key_id": access_key,
            "aws_secret_access_key": secret_key,
            "aws_session_token": session_token,
        }
        made: Any = contextlib.closing(_made_client(endpoint_url, timeout, max_attempts, options))
    elif any(option is not None for option in (endpoint_url, region_name, access_key, secret_key, session_token)):
        raise ConfigurationError("client is given together with an address or credentials; give them to the client")
    else:
        made = contextlib.nullcontext(client)
    with made as s3:
        listings = [_listed(s3, place) for place in places]
        chosen = [_chosen(place, names, wanted) for place, names in zip(places, listings, strict=True)]
        _check_used(wanted, chosen)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="star-s3") as readers:
            return [
                [dict(zip(names, readers.map(_Reader(s3, place), names), strict=True))]
                for place, names in zip(places, chosen, strict=True)
            ]


@dataclass(frozen=True)
class _Place:
    """A bucket, and the folder in it ("" or ending in "/")."""

    bucket: str
    prefix: str

    @classmethod
    def of(cls, source: object) -> _Place:
        if not isinstance(source, str):
            advice = ": from_s3(*sources) hands over a list's items" if isinstance(source, list | tuple) else ""
            raise ConfigurationError(f"from_s3() was given {type(source).__name__}, 'bucket/prefix' is wanted{advice}")
        bucket, _, folder = source.removeprefix("s3://").partition("/")
        if not bucket or "://" in source.removeprefix("s3://"):
            raise ConfigurationError(f"the source {source!r} is given, 'bucket' or 'bucket/prefix' is wanted")
        folder = folder.rstrip("/")
        return cls(bucket, f"{folder}/" if folder else "")

    def __str__(self) -> str:
        return f"folder {self.prefix!r} of bucket {self.bucket!r}" if self.prefix else f"bucket {self.bucket!r}"


@dataclass(frozen=True)
class _Reader:
    """Reads one object of a place by its name."""

    s3: Any
    place: _Place

    def __call__(self, name: str) -> bytes:
        key = self.place.prefix + name
        with (
            _s3_errors(self.place.bucket, key),
            contextlib.closing(self.s3.get_object(Bucket=self.place.bucket, Key=key)["Body"]) as body,
        ):
            content: bytes = body.read()
            return content


def _made_client(endpoint_url: str | None, timeout: object, max_attempts: object, options: dict[str, Any]) -> Any:
    if not is_number(timeout) or not 0 < timeout < float("inf"):  # type: ignore[operator]
        raise ConfigurationError(f"timeout={timeout!r} is given, a number of seconds above 0 is wanted")
    if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
        raise ConfigurationError(f"max_attempts={max_attempts!r} is given, a whole number from 1 is wanted")
    if (options["aws_access_key_id"] is None) != (options["aws_secret_access_key"] is None):
        raise ConfigurationError("one of access_key and secret_key is given, both or neither are wanted")
    boto3 = load_extra("boto3", "s3", "from_s3")
    config = load_extra("botocore.config", "s3", "from_s3").Config(
        connect_timeout=timeout,
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": max_attempts},
        # An endpoint of one's own seldom has a host name for each bucket.
        s3={"addressing_style": "path"} if endpoint_url else None,
    )
    try:
        return boto3.session.Session().client("s3", endpoint_url=endpoint_url, config=config, **options)
    except ValueError as error:
        raise ConfigurationError(f"endpoint_url={endpoint_url!r} is not an address: {error}") from error


def _patterns(keys: object) -> tuple[str, ...]:
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise ConfigurationError(f"keys={keys!r} is given, a list of names is wanted, e.g. ['data.csv']")
    patterns = tuple(keys)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise ConfigurationError(f"keys={list(patterns)!r} is given, a list of names is wanted, e.g. ['data.csv']")
    return patterns


def _listed(s3: Any, place: _Place) -> list[str]:
    names: list[str] = []
    with _s3_errors(place.bucket, None):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.prefix):
            files = (each["Key"] for each in page.get("Contents", ()) if each["Size"] or not each["Key"].endswith("/"))
            names += (key.removeprefix(place.prefix) for key in files)
    if not names:
        raise ConfigurationError(f"{place} holds no object")
    return sorted(names)


def _chosen(place: _Place, names: list[str], wanted: tuple[str, ...]) -> list[str]:
    if not wanted:
        return names
    chosen = [name for name in names if any(_matches(name, pattern) for pattern in wanted)]
    if not chosen:
        there = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise ConfigurationError(f"{place} holds none of keys={list(wanted)!r}; it holds {there}")
    return chosen


def _check_used(wanted: tuple[str, ...], chosen: list[list[str]]) -> None:
    unused = [pattern for pattern in wanted if not any(_matches(name, pattern) for names in chosen for name in names)]
    if unused:
        raise ConfigurationError(f"no source holds {', '.join(map(repr, unused))} of keys={list(wanted)!r}")


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


@contextlib.contextmanager
def _s3_errors(bucket: str, key: str | None) -> Iterator[None]:
    """Turn botocore's errors into ours, which name the bucket and the key."""
    exceptions = load_extra("botocore.exceptions", "s3", "from_s3")
    what = f"bucket {bucket!r} cannot be listed" if key is None else f"key {key!r} of bucket {bucket!r} cannot be read"
    try:
        yield
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise ConfigurationError(
            f"{what}: {error}; give access_key and secret_key, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except exceptions.ParamValidationError as error:
        raise ConfigurationError(f"{what}: {error}") from error
    except exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code == "NoSuchKey":
            what = f"key {key!r} of bucket {bucket!r} was listed, and is gone now that it is read"
        elif code == "NoSuchBucket":
            what = f"bucket {bucket!r} does not exist there"
        raise S3Error(f"{what}: {error}", bucket=bucket, key=key) from error
    except exceptions.BotoCoreError as error:
        raise S3Error(f"{what}: {error}", bucket=bucket, key=key) from error
