"""The pipeline: its stages in order, and the draft that passes through them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from msgspec import UNSET

from star_actors.errors import DeliveryError, EncodingError, NodeStopped, PrivacyError
from star_actors.report import Output

from .delivery import is_stream, numbered, write
from .encoding import ENCODERS, Kind, text_of, type_name
from .withheld import Withheld

__all__ = ["UNSET", "Draft", "Stage", "build_pipeline", "run_pipeline"]


@dataclass
class Draft:
    """One release on its way out. It is edited in place, so that what is done survives a stage that fails.

    `value` is the aggregate of `round`; once the privacy stage has passed, what may be released. `several` says that
    its elements are delivered one by one. `result` is the released object, UNSET until it may be seen. `outputs` holds
    one Output for each encoded result; its `path` is None until it has been written.
    """

    value: Any
    round: int
    several: bool = False
    result: Any = UNSET
    outputs: list[Output] = field(default_factory=list)

    @property
    def items(self) -> list[Any]:
        """What is delivered: the value itself, or its elements. Setting it sets the value, a list or a tuple."""
        if not self.several:
            return [self.value]
        # Not list(value): a subclass's own __iter__ is user code, and could tell the value before it is noised.
        kind = tuple if issubclass(type(self.value), tuple) else list
        return [*kind.__iter__(self.value)]

    @items.setter
    def items(self, items: Iterable[Any]) -> None:
        if not self.several:
            (self.value,) = items
        elif issubclass(type(self.value), tuple):
            self.value = tuple(items)
        else:
            self.value = list(items)


Stage = Callable[[Draft], None]


def build_pipeline(
    *,
    output_type: Kind | list[Kind] | tuple[Kind, ...] = "str",
    multiple_results: bool = False,
    paths: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
    announce: Callable[[str], None] | None = None,
    warn: Callable[[str], None] | None = None,
    privacy_stage: Stage | None = None,
    folder: Path | None = None,
) -> list[Stage]:
    """The stages of a release, in order; the arguments have passed `check_output_type` and `check_paths`.

    `announce` takes what is said of each result, last of all (None: nothing is said); `warn` takes warnings, which
    never hold a value. `privacy_stage` replaces `draft.value` (or `draft.items`, element by element) by what may be
    released, or raises PrivacyError; any other exception out of it becomes one, without its text. `folder` is what
    relative paths start from (None: where the process is now).
    """
    stages: list[Stage] = []
    if multiple_results:
        stages.append(_Split(warn))
    if privacy_stage is not None:
        stages.append(_FailClosed(privacy_stage))
    stages.append(_release)
    stages.append(_Encode(output_type))
    stages.append(_Deliver(paths, announce, folder))
    return stages


def run_pipeline(stages: Iterable[Stage], draft: Draft) -> Draft:
    """Pass `draft` through the stages and return it.

    Raises PrivacyError, EncodingError or DeliveryError; `draft.result` and `draft.outputs` hold what was done by then.
    """
    for stage in stages:
        stage(draft)
    return draft


class _Split:
    """Marks a list or tuple for delivery item by item; anything else is delivered whole, as on FLAME."""

    def __init__(self, warn: Callable[[str], None] | None) -> None:
        self._warn = warn or _ignore

    def __call__(self, draft: Draft) -> None:
        if not issubclass(type(draft.value), (list, tuple)):
            self._warn(
                f"multiple_results=True is given, but the result is of type {type_name(draft.value)}, a list or tuple "
                "is wanted: it is delivered as one result"
            )
            return
        draft.several = True
        if not draft.items:
            self._warn("multiple_results=True is given, but the result is empty: there is nothing to deliver")


class _FailClosed:
    """Runs the privacy stage so that none of its failures tells the value: causes are cut off, the draft is emptied."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __call__(self, draft: Draft) -> None:
        try:
            self._stage(draft)
        except (KeyboardInterrupt, NodeStopped):
            draft.several, draft.value = False, Withheld()
            raise
        except PrivacyError as error:
            failure = error
        except BaseException as error:
            failure = PrivacyError(
                f"the result of round {draft.round} could not be noised ({type_name(error)}; its text is withheld, it "
                "may hold the exact value), a finite number is wanted: return one from aggregation_method"
            )
        else:
            return
        draft.several, draft.value = False, Withheld()
        # Raised out here, and cut off from what it came from: a context is printed, logged and kept by others.
        failure.__cause__ = failure.__context__ = None
        failure._tells_nothing = True
        raise failure


def _release(draft: Draft) -> None:
    draft.result = draft.value


class _Encode:
    """Encodes every item before any is delivered."""

    def __init__(self, output_type: Kind | list[Kind] | tuple[Kind, ...]) -> None:
        self._output_type: Kind | list[Kind] | tuple[Kind, ...] = output_type

    def __call__(self, draft: Draft) -> None:
        items = draft.items
        kinds = self._kinds(len(items))
        for i, (item, kind) in enumerate(zip(items, kinds, strict=True)):
            draft.outputs.append(Output(kind, ENCODERS[kind].encode(item, _name(draft, i))))

    def _kinds(self, count: int) -> Sequence[Kind]:
        if isinstance(self._output_type, str):
            return [self._output_type for _ in range(count)]
        if len(self._output_type) != count:
            raise EncodingError(
                f"output_type is a list of {len(self._output_type)}, the result has {_items(count)}, one type for each "
                "item is wanted: give as many, or one type for all; the result itself is on the error's report"
            )
        return self._output_type


class _Deliver:
    """Writes every output, then says so; or shows each result where there is no path."""

    def __init__(
        self,
        paths: str | PathLike[str] | Sequence[str | PathLike[str]] | None,
        announce: Callable[[str], None] | None,
        folder: Path | None,
    ) -> None:
        self._paths = paths
        self._announce = announce
        # Encoding runs user code, which may change the working directory.
        self._folder = folder or (Path() if paths is None else Path.cwd())

    def __call__(self, draft: Draft) -> None:
        if self._paths is not None:
            self._write(draft)
        if self._announce is None:
            return
        for i, output in enumerate(draft.outputs):
            label = f"Final result_{i + 1}" if draft.several else "Final result"
            if output.path is not None:
                text = f"{label} written to {output.path}"
            elif output.kind == "str":
                text = f"{label}: {output.value!s}"
            else:
                text = f"{label}: {text_of(draft.items[i], _name(draft, i))}"
            self._say(text, i, draft)

    def _write(self, draft: Draft) -> None:
        for i, path in enumerate(self._targets(draft)):
            output = draft.outputs[i]
            data = output.value.encode("utf-8") if isinstance(output.value, str) else output.value
            try:
                write(self._folder / path, data)
            except (OSError, ValueError) as error:
                done = [str(output.path) for output in draft.outputs[:i]]
                before = f"; written before it: {', '.join(done)}" if done else ""
                raise DeliveryError(
                    f"{_name(draft, i)} could not be written to {str(path)!r}: {_reason(error)}{before}. The results "
                    "are on the error's report: mend the cause, or write them from there to another path"
                ) from error
            output.path = path

    def _targets(self, draft: Draft) -> list[Path]:
        count = len(draft.outputs)
        if isinstance(self._paths, (str, PathLike)):
            path = Path(fspath(self._paths))
            if not draft.several or is_stream(self._folder / path):
                return [path] * count
            return numbered(path, count)
        paths = [Path(fspath(path)) for path in self._paths or ()]
        if len(paths) != count:
            raise DeliveryError(
                f"result_filepath is a list of {len(paths)}, the result has {_items(count)}, one path for each item is "
                "wanted: give as many, or one path for all, which is numbered. Nothing was written; the results are "
                "on the error's report"
            )
        return paths

    def _say(self, text: str, i: int, draft: Draft) -> None:
        if self._announce is None:
            return
        try:
            self._announce(text)
        except (OSError, ValueError) as error:
            raise DeliveryError(
                f"{_name(draft, i)} could not be announced: {_reason(error)}. The results are on the error's report: "
                "mend where the output goes to, or give result_filepath"
            ) from error


def _name(draft: Draft, i: int) -> str:
    return f"result[{i}]" if draft.several else "result"


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"


def _reason(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def _ignore(text: str) -> None:
    """Where nobody listens."""
