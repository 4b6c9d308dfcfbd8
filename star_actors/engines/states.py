"""The state of a node: what it takes to go on with it in another process after its own is gone."""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import ConfigurationError
from ..isolation.pickled import writable_copy
from ..isolation.uncopyable import NEVER_A_COPY_FAILURE, uncopyable
from .by_value import by_value_pickler
from .scripts import is_of_script

if TYPE_CHECKING:
    from .seats import Seat

__all__ = ["State", "StateKeeper", "resume"]

Path = tuple[Any, ...]
"""Keys and positions that lead from a node's data to a part of them."""

_PARTS = 10_000
"""How many parts of a node's data its state may refer to instead of holding them."""


class State(msgspec.Struct):
    """A node after a call: its instance and session as a pickle, with the digests of the buffers out of it.

    `buffers` has, by digest, those that the receiver does not have yet. `split` is the pickle of the node's data where
    they are not what they were at the start. `accepted` counts the messages that had come to the node by then.
    """

    data: bytes
    digests: list[bytes]
    buffers: dict[bytes, Any]
    split: bytes | None
    accepted: int


class StateKeeper:
    """In a host: takes the state of one node after each of its calls."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._sent: set[bytes] = set()
        self._split = b""
        self._first = b""

    def begin(self) -> None:
        """Remember what the data are at the start."""
        self._first = _digest(self._split_pickle())

    def take(self, accepted: int) -> State:
        """The node's state now; with the board's lock held, so that nothing comes in between. Raises
        ConfigurationError where it cannot be pickled."""
        seat = self._seat
        content = {"node": seat.node, "session": seat.flame._state(), "latest": seat.round}
        buffers: list[pickle.PickleBuffer] = []
        try:
            data = self._pickle(content, buffers)
            split = self._split_pickle()
        except NEVER_A_COPY_FAILURE:
            raise
        except BaseException as error:  # whatever the user's objects raise
            found = uncopyable(seat.node, error, self._pickle)
        else:
            views = [buffer.raw() for buffer in buffers]
            digests = [_digest(view) for view in views]
            fresh = {d: writable_copy(view) for d, view in zip(digests, views, strict=True) if d not in self._sent}
            self._sent = set(digests)
            return State(data, digests, fresh, None if _digest(split) == self._first else split, accepted)
        raise ConfigurationError(
            f'on_worker_loss="restart" keeps the state of every node, and self{found.path} is a {found.type_name}, '
            f"which cannot be pickled ({type(found.cause).__name__}: {found.cause}). Make it anew in each call, "
            'leave it out in __getstate__, or use on_worker_loss="fail"'
        ) from found.cause

    def _pickle(self, content: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
        stream = io.BytesIO()
        _state_pickler()(stream, self._seat, buffers).dump(content)
        return stream.getvalue()

    def _split_pickle(self) -> bytes:
        # In band: it is looked at after every call, and sent only where it has changed.
        stream = io.BytesIO()
        _state_pickler()(stream, None, None).dump(self._seat.data)
        return stream.getvalue()


def resume(seat: Seat, state: State) -> None:
    """Make a seat's node what it was; its data and keyword arguments are there already."""
    if state.split is not None:
        seat.data = pickle.loads(state.split)
    buffers = [writable_copy(memoryview(state.buffers[digest])) for digest in state.digests]
    content = _StateUnpickler(state.data, seat, buffers).load()
    seat.node, seat.round = content["node"], content["latest"]
    seat.flame._resume(content["session"])


@functools.cache
def _state_pickler() -> Any:
    class StatePickler(by_value_pickler()):  # type: ignore[misc]
        """Pickles the session, the class, and parts of the node's data by reference."""

        def __init__(self, stream: io.BytesIO, seat: Seat | None, buffers: list[pickle.PickleBuffer] | None) -> None:
            super().__init__(stream, protocol=5, buffer_callback=None if buffers is None else buffers.append)
            self._star_names: dict[int, Any] = {}
            if seat is not None:
                self._star_names = {id(part): ("data", path) for path, part in _parts(seat.data)}
                self._star_names |= {id(seat.flame): ("flame", ()), id(seat.cls): ("class", ())}

        def persistent_id(self, obj: Any) -> Any:
            return self._star_names.get(id(obj))

        def reducer_override(self, obj: Any) -> Any:
            return NotImplemented if is_of_script(obj) else super().reducer_override(obj)

    return StatePickler


class _StateUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes, seat: Seat, buffers: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._seat = seat

    def persistent_load(self, pid: Any) -> Any:
        kind, path = pid
        if kind == "flame":
            return self._seat.flame
        if kind == "class":
            return self._seat.cls
        part = self._seat.data
        for key in path:
            part = part[key]
        return part


def _parts(data: Any) -> Iterator[tuple[Path, Any]]:
    """The data themselves and their parts, down to the third level of lists and dicts, small constants left out."""
    level: list[tuple[Path, Any]] = [((), data)]
    count = 0
    for depth in range(4):
        below: list[tuple[Path, Any]] = []
        for path, part in level:
            if isinstance(part, bool | int | float | str | type(None)):
                continue
            yield path, part
            count += 1
            if count > _PARTS:
                return
            if depth < 3 and type(part) in (list, tuple):
                below.extend(((*path, i), element) for i, element in enumerate(part))
            elif depth < 3 and type(part) is dict:
                below.extend(((*path, key), element) for key, element in part.items() if type(key) in (str, int))
        level = below


def _digest(content: Any) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
