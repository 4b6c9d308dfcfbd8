"""FLAME's SDK as a node uses it: opened with patience, raising where it would sleep, callable from anywhere.

`flamesdk.FlameCoreSDK` is optional and imported on use. What users get as `self.flame` is an instance of a subclass of
it: every name of the SDK is there and does what it does, and four things are added. A part of the SDK that fails
raises SdkError, where the SDK marks the node failed and sleeps for 1000 seconds. A wait for other nodes loses no
wake-up (`peers`). A blocking call works inside an `async def` method. `self.flame.aio.<name>` is the awaitable twin of
`self.flame.<name>`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import importlib
import inspect
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from ..errors import ConfigurationError
from .peers import PeerCalls
from .threads import Outcome, in_thread

__all__ = ["SdkError", "is_transient", "load_sdk", "mark_executed", "mark_failed", "node_status", "open_sdk"]

SDK_HOME = "https://github.com/PrivateAIM/python-sdk"
START_PATIENCE = 120.0
"""Seconds for which a node's services may answer with errors while it starts."""

_RUNS_A_LOOP = (
    "analysis_finished",
    "await_intermediate_data",
    "await_messages",
    "fhir_to_csv",
    "get_fhir_data",
    "get_s3_data",
    "ready_check",
    "send_intermediate_data",
    "send_message",
    "send_message_and_wait_for_responses",
)
"""What the SDK does with `asyncio.run` inside, which a running loop in the same thread forbids."""

_LOG_TYPES = {"normal": "info", "warning": "warn", "emergency": "emerg", "critical-error": "crit"}
"""Log types that FLAME's local mock knows, and what they are called on FLAME, where an unknown one stops the node."""

_NOISY = {"asyncio": logging.INFO, "httpcore": logging.INFO, "httpx": logging.WARNING}
"""Loggers that write dozens of lines a round once the SDK has set the root logger to DEBUG."""

_TRANSIENT = (401, 408, 425, 429)


class SdkError(RuntimeError):
    """A part of FLAME's SDK failed. `status` is the HTTP status that it met, None where it met none."""

    def __init__(self, message: str, *, status: int | None = None, transient: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.transient = transient


def load_sdk() -> type[Any]:
    """The class `flamesdk.FlameCoreSDK`; raises ConfigurationError where it is not installed, or older than 0.6.0."""
    try:
        sdk_class = cast("type[Any]", importlib.import_module("flamesdk").FlameCoreSDK)
    except ModuleNotFoundError as error:
        if error.name not in ("flamesdk", "httpx", "fastapi", "uvicorn"):
            raise
        raise ConfigurationError(
            f"StarModel runs on FLAME's SDK, and {error.name!r} cannot be imported here. On a FLAME node the master "
            f"image brings it. To have it elsewhere: pip install 'flamesdk @ git+{SDK_HOME}@0.6.0' (it is on no "
            "package index). To try the analysis on this machine, use StarModelTester, which needs no SDK"
        ) from error
    if "append" not in inspect.signature(sdk_class.flame_log).parameters:
        raise ConfigurationError(
            "the flamesdk that is installed here is older than 0.6.0, which StarModel needs: build the master image "
            f"with pip install 'flamesdk @ git+{SDK_HOME}@0.6.0'"
        )
    return sdk_class


def open_sdk(stream_log_level: int, local_dp: dict[str, float] | None) -> Any:
    """Construct the SDK on the calling thread, which must have no running loop; this starts its server thread.

    With `local_dp`, what user code itself submits is noised as well.

    Services that are not up yet are tried again for `START_PATIENCE` seconds. Raises SdkError after that, and
    ConfigurationError where the SDK is not installed.
    """
    sdk_class = _subclass(load_sdk())
    options = {} if stream_log_level == 20 else {"stream_log_level": stream_log_level}
    give_up = time.monotonic() + START_PATIENCE
    pause = 0.5
    while True:
        try:
            sdk = sdk_class(**options)
        except SdkError as error:
            if not error.transient or time.monotonic() + pause > give_up:
                raise
            time.sleep(pause)
            pause = min(2 * pause, 10.0)
        else:
            sdk._star_local_dp = local_dp
            for name, level in _NOISY.items():
                if logging.getLogger(name).level == logging.NOTSET:
                    logging.getLogger(name).setLevel(level)
            return sdk


def is_transient(error: BaseException | None) -> bool:
    """Whether a call that ended so may go through a little later: a service was away, or answered that it was."""
    if isinstance(error, SdkError):
        return error.transient
    return any(t.__name__ == "TransportError" for t in type(error).__mro__)  # httpx's, which need not be installed


def node_status(sdk: Any) -> str | None:
    """What the platform holds this node to be ("executing", "failed", …); None where the SDK does not tell."""
    status = getattr(getattr(sdk, "_flame_logger", None), "runstatus", None)
    return status if isinstance(status, str) else None


def mark_failed(sdk: Any, text: str) -> None:
    """Take the SDK's own error path: the node is marked failed and the platform is told `text`. May block."""
    raise_error = getattr(sdk, "_star_raise_error", None)
    if raise_error is not None:
        raise_error(text, seconds=0)
    else:
        sdk.flame_log(text, log_type="error")


def mark_executed(sdk: Any) -> None:
    """Mark the node executed without another word to the partners, who have been told. May block."""
    node_finished = getattr(sdk, "_node_finished", None)
    if node_finished is not None:
        node_finished()
    else:
        sdk.analysis_finished()


class _Additions(PeerCalls):
    """What stands before the SDK's own methods in `self.flame`."""

    _star_raise_error: Callable[..., None] | None = None
    _star_local_dp: dict[str, float] | None = None

    def flame_log(
        self,
        msg: Any,
        sep: str = "",
        end: str = "",
        log_type: str = "info",
        append: bool = False,
        halt_submission: bool = False,
        file: object = None,
        suppress_head: bool = False,
        **more: Any,
    ) -> None:
        self._arm()  # the SDK logs first of all, so this comes before any part of it can fail
        if isinstance(msg, (list, tuple)):
            msg = [str(part) for part in msg]
        elif not isinstance(msg, (str, bytes)):
            msg = str(msg)
        cast("Any", super()).flame_log(
            msg,
            sep=sep,
            end=end,
            log_type=_LOG_TYPES.get(log_type, log_type),
            append=append,
            halt_submission=halt_submission,
            **more,
        )

    def get_participants(self) -> list[dict[str, str]]:
        found = cast("Any", super()).get_participants()
        return [{**p, "id": p["nodeId"], "role": p["nodeType"]} for p in found]

    def get_aggregator_id(self) -> str | None:
        me = cast("Any", self)
        if me.get_role() == "aggregator":
            return cast("str", me.get_id())
        return cast("str | None", cast("Any", super()).get_aggregator_id())

    def submit_final_result(self, *args: Any, **kwargs: Any) -> Any:
        if self._star_local_dp is not None and kwargs.get("local_dp") is None and len(args) < 5:
            kwargs["local_dp"] = self._star_local_dp
        return cast("Any", super()).submit_final_result(*args, **kwargs)

    @property
    def aio(self) -> _Awaitable:
        """The awaitable twin of every method, for `async def` methods: `await self.flame.aio.get_s3_data()`."""
        return _Awaitable(self)

    def _arm(self) -> None:
        logger: Any = self.__dict__.get("_flame_logger")
        if self._star_raise_error is None and hasattr(logger, "raise_error"):
            self._star_raise_error = logger.raise_error
            logger.raise_error = functools.partial(_raise, logger)


class _Awaitable:
    """The methods of the SDK, each on a thread of its own."""

    def __init__(self, sdk: Any) -> None:
        self._sdk = sdk

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._sdk, name)

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await in_thread(functools.partial(method, *args, **kwargs))

        return call


def _raise(logger: Any, message: object, seconds: float = 1000) -> None:
    """Stands in for the SDK's way to fail, which marks the node failed and sleeps."""
    cause = sys.exc_info()[1]
    if isinstance(cause, SdkError):
        raise SdkError(str(message), status=cause.status, transient=cause.transient)
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status == 404 and _lists_s3(cause):
        # A FHIR server has no S3 listing: it is a source of the other kind, and gives nothing, as S3 does for FHIR.
        logger.new_log("A data source without S3 objects was left out: it answers an S3 listing with 404")
        return
    transient = is_transient(cause) if status is None else status >= 500 or status in _TRANSIENT
    raise SdkError(str(message), status=status, transient=transient)


def _lists_s3(error: BaseException | None) -> bool:
    request = getattr(error, "request", None)
    return str(getattr(request, "url", "")).split("?")[0].rstrip("/").endswith("/s3")


def _subclass(sdk_class: type[Any]) -> type[Any]:
    additions = type(sdk_class.__name__, (_Additions, sdk_class), {})
    calls = {name: _off_loop(getattr(additions, name)) for name in _RUNS_A_LOOP if hasattr(additions, name)}
    return type(sdk_class.__name__, (additions,), {"__module__": sdk_class.__module__, **calls})


def _off_loop(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return method(*args, **kwargs)
        context = contextvars.copy_context()
        outcomes: list[Outcome] = []

        def work() -> None:
            try:
                outcomes.append(Outcome(context.run(method, *args, **kwargs), None))
            except BaseException as error:  # raised again below, in the caller's thread
                outcomes.append(Outcome(None, error))

        thread = threading.Thread(target=work, name="star_actors SDK call", daemon=True)
        thread.start()
        thread.join()
        if outcomes[0].error is not None:
            raise outcomes[0].error
        return outcomes[0].value

    return call
