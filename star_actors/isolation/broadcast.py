"""One value for many receivers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .arrays import array_over, memory_of, order_of
from .copies import pickled_copy
from .flat import CONTAINERS, leaf_copy, mutable_leaves, replaced
from .kinds import ATOMIC, immutable_types, is_plain_array, nbytes_of
from .pages import LARGE, Held, Loan, Pages, hold
from .pickled import dump, load, nbytes_of_pickle
from .uncopyable import NEVER_A_COPY_FAILURE, Uncopyable, qualified_name, uncopyable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Broadcast"]

# Among large arrays, those below this are copied all the same.
_SMALL = 4096


class Broadcast:
    """One value for any number of nodes; each `take` gives one of them a writable value of its own.

    What is taken is the value as it was when the Broadcast was made, equal bit for bit to what `private_copy` gives.
    Large arrays, also those inside of containers and DataFrames, are written once and mapped copy-on-write, so that
    memory grows only by the pages that receivers write to. With `pages` of the run, the memory of earlier rounds is
    used again. `close` it, or drop it, once everybody has taken; what was taken stays valid.
    `nbytes` is about the size of one message; `pickled` the pickle that was made (large buffers
    are beside it), None where none was needed.
    Takes may come from any thread. Raises Uncopyable where the value cannot be pickled.
    """

    __slots__ = ("_give", "_held", "nbytes", "pickled")

    def __init__(self, value: Any, *, pages: Pages | None = None) -> None:
        self._held: Held | None = None
        self.pickled: bytes | None = None
        self._give: Callable[[], Any]
        cls = type(value)
        if cls in ATOMIC or cls in immutable_types():
            self.nbytes = nbytes_of(value)
            self._give = lambda: value
        elif is_plain_array(value):
            self.nbytes = nbytes_of(value)
            self._give = self._array(value, pages)
        elif cls in CONTAINERS and (flat := mutable_leaves(value)) is not None:
            leaves, self.nbytes = flat
            self._give = self._flat(value, leaves, pages)
        else:
            self._give = self._unpickled(value, pages)

    def take(self) -> Any:
        """The value, for one receiver that may do with it what it likes. Raises RuntimeError once closed."""
        return self._give()

    def keep(self) -> Any:
        """The value, for the record; costs what a `take` costs."""
        return self._give()

    def lend(self) -> tuple[bytes, Sequence[memoryview], Loan | None]:
        """The value for other processes: its pickle, the buffers out of it, and the memory that has just these
        buffers where they can be mapped instead of copied."""
        data, buffers = dump(self.take())
        loan = self._held.lend() if self._held is not None else None
        if loan is not None and [size for _, size in loan.places] != [buffer.nbytes for buffer in buffers]:
            os.close(loan.fd)  # the pickle has other buffers than the memory
            loan = None
        return data, buffers, loan

    def close(self) -> None:
        """Nothing more will be taken: descriptors are closed, and pages become free with the last array over them."""
        self._give = _closed
        if self._held is not None:
            self._held.close()

    def _array(self, value: NDArray[Any], pages: Pages | None) -> Callable[[], Any]:
        if value.nbytes < LARGE:
            own = value.copy("A")
            return lambda: own.copy("A")
        self._held = held = hold([memory_of(value).data], pages)
        form = _form(value)
        return lambda: array_over(held.parts()[0], *form)

    def _flat(self, value: Any, leaves: list[Any], pages: Pages | None) -> Callable[[], Any]:
        if not leaves:
            own_value = replaced(value, {})
            return lambda: replaced(own_value, {})
        large = [leaf for leaf in leaves if type(leaf) is not bytearray and leaf.nbytes >= _SMALL]
        if sum(array.nbytes for array in large) < LARGE:
            large = []
        forms = [_form(array) for array in large]
        stand_ins = {id(array): object() for array in large}
        own = [leaf_copy(leaf) for leaf in leaves if id(leaf) not in stand_ins]
        small = (id(leaf) for leaf in leaves if id(leaf) not in stand_ins)
        template = replaced(value, stand_ins | dict(zip(small, own, strict=True)))
        held = hold([memory_of(array).data for array in large], pages) if large else None
        self._held = held

        def give() -> Any:
            new = {id(leaf): leaf_copy(leaf) for leaf in own}
            if held is not None:
                for stand_in, form, part in zip(stand_ins.values(), forms, held.parts(), strict=True):
                    new[id(stand_in)] = array_over(part, *form)
            return replaced(template, new)

        return give

    def _unpickled(self, value: Any, pages: Pages | None) -> Callable[[], Any]:
        try:
            data, buffers = dump(value)
            self._held = held = hold(buffers, pages) if buffers else None
            # What cannot be unpickled is the sender's fault, so it is tried here; the first receiver gets the outcome.
            ready = [load(data, held.parts() if held else ())]
        except NEVER_A_COPY_FAILURE:
            raise
        except BaseException as error:  # whatever the value's own code raises
            found = uncopyable(value, error, pickled_copy)
        else:
            self.nbytes = nbytes_of_pickle(data, buffers)
            self.pickled = data
            return partial(_unpickle, ready, data, held, type(value))
        raise found from found.cause


def _unpickle(ready: list[Any], data: bytes, held: Held | None, cls: type) -> Any:
    try:
        return ready.pop()
    except IndexError:
        pass
    parts = held.parts() if held else ()
    try:
        return load(data, parts)
    except NEVER_A_COPY_FAILURE:
        raise
    except BaseException as error:  # it went well once: code that does not do the same thing twice
        raise Uncopyable("", qualified_name(cls), error) from error


def _form(array: NDArray[Any]) -> tuple[str, tuple[int, ...], str]:
    return array.dtype.str, array.shape, order_of(array)


def _closed() -> Any:
    raise RuntimeError("no more copies can be taken: the broadcast is closed")
