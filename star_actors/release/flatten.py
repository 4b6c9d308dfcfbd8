"""Nested results as one vector of numbers, and back.

Noise is added to a vector. A result is a number, an array, or a nest of lists, tuples and dicts of these; here it is
taken apart into its numbers and a skeleton that holds no number, and put together again around the noised ones.
Shapes, lengths, keys and dtypes are in the skeleton: they are released as they are.

Whatever is not clearly a number is refused by the path of the offending part and its type. A refusal never names a
value. Only exact types are accepted, so no code of the value's own class runs on the way.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from star_actors.errors import PrivacyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Flat", "Integers", "Leaf", "flatten"]

Integers = Literal["float", "discrete"]

_EXACT = 1 << 53
"""Every whole number up to this size is a float64 of its own; beyond it, rounding could exceed the sensitivity."""

_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where numbers stand in a skeleton: how many, of which kind, and what they become again.

    `dtype` is None for Python's own numbers, `shape` None for scalars. `integral` says which vector they are in.
    """

    size: int
    integral: bool
    dtype: np.dtype[Any] | None = None
    shape: tuple[int, ...] | None = None


_FLOAT = Leaf(1, integral=False)
_INT = Leaf(1, integral=True)


@dataclass(frozen=True)
class Flat:
    """A result taken apart: `floats` (float64) and `ints` (int64), each in the order of the walk, and the skeleton."""

    floats: NDArray[np.float64]
    ints: NDArray[np.int64]
    skeleton: Any

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.floats.size + self.ints.size

    def rebuild(self, floats: NDArray[np.float64], ints: NDArray[np.int64]) -> Any:
        """The result again, with other numbers: arrays as long as `self.floats` and `self.ints`.

        A number that its dtype cannot hold becomes the nearest one that it can.
        """
        if floats.shape != self.floats.shape or ints.shape != self.ints.shape:
            raise ValueError("as many numbers are wanted as were taken apart")
        return _build(self.skeleton, _Taker(floats), _Taker(ints))


def flatten(value: Any, *, integers: Integers = "float", resolution: float = math.inf, root: str = "result") -> Flat:
    """Take `value` apart into its numbers and a skeleton.

    Accepted: int, float, real NumPy scalars up to 64 bits, NumPy arrays of these in any shape, and lists, tuples
    (named ones too) and dicts with string keys of anything accepted.
    `integers`: "float" turns integers into floats (integer arrays into float64), "discrete" keeps them.
    `resolution` is the widest gap that may lie between a float and its neighbours: wider ones are refused, because a
    float that coarse cannot show what it is to show.
    `root` names the value in errors. Raises PrivacyError with the path and type of the offending part.
    """
    import numpy as np

    walk = _Walk(integers, resolution, root)
    skeleton = walk.take(value)
    flat = Flat(
        np.frombuffer(walk.floats, dtype=np.float64) if walk.floats else np.empty(0),
        np.frombuffer(walk.ints, dtype=np.int64) if walk.ints else np.empty(0, dtype=np.int64),
        skeleton,
    )
    if not flat.size:
        raise PrivacyError(f"{root} ({type(value).__qualname__}) holds no number, so there is nothing to add noise to")
    return flat


class _Walk:
    """One pass over a value; the path to where it stands is kept for errors."""

    def __init__(self, integers: Integers, resolution: float, root: str) -> None:
        self.floats = array("d")
        self.ints = array("q")
        self._discrete = integers == "discrete"
        self._resolution = resolution
        self._root = root
        self._path: list[str | int | tuple[int, ...]] = []
        self._open: set[int] = set()
        self._leaves: dict[np.dtype[Any], Leaf] = {}

    def take(self, value: Any) -> Any:
        """The skeleton of `value`, whose numbers are appended to `floats` and `ints`."""
        import numpy as np

        kind = type(value)
        if kind is float:
            return self._float(value)
        if kind is int:
            return self._int(value)
        if kind is list or kind is dict or issubclass(kind, tuple):
            return self._container(value, kind)
        if kind is np.ndarray:
            return self._array(value, value.dtype, value.shape)
        if issubclass(kind, np.generic) and kind is value.dtype.type:
            return self._array(value, value.dtype, None)
        return self._refuse(value)

    def _float(self, value: float) -> Leaf:
        if not math.isfinite(value):
            self._refuse_number(value, "is not finite", "noise cannot hide that, so make sure it cannot happen")
        if math.ulp(value) > self._resolution:
            self._refuse_coarse(value)
        self.floats.append(value)
        return _FLOAT

    def _int(self, value: int) -> Leaf:
        if self._discrete:
            if not -(1 << 63) <= value < 1 << 63:
                self._refuse_number(value, "does not fit into 64 bits", "scale it down")
            self.ints.append(value)
            return _INT
        if not -_EXACT <= value <= _EXACT:
            self._refuse_inexact(value)
        return self._float(float(value))

    def _array(self, value: Any, dtype: np.dtype[Any], shape: tuple[int, ...] | None) -> Leaf:
        import numpy as np

        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            self._refuse(value, dtype)
        if dtype.kind == "f":
            self._check_floats(value, dtype)
            self.floats.frombytes(value.astype(np.float64).tobytes())
            return self._leaf(Leaf(value.size, False, dtype, shape))
        if self._discrete:
            if dtype.kind == "u" and value.size and value.max() > np.iinfo(np.int64).max:
                self._refuse_number(value, "does not fit into 64 bits with a sign", "scale it down", dtype)
            self.ints.frombytes(value.astype(np.int64).tobytes())
            return self._leaf(Leaf(value.size, True, dtype, shape))
        if value.size and (value.max() > _EXACT or (dtype.kind == "i" and value.min() < -_EXACT)):
            self._refuse_inexact(value, dtype)
        floats = value.astype(np.float64)
        self._check_floats(floats, dtype)
        self.floats.frombytes(floats.tobytes())
        return self._leaf(Leaf(value.size, False, floats.dtype, shape))

    def _check_floats(self, value: Any, dtype: np.dtype[Any]) -> None:
        import numpy as np

        finite = np.isfinite(value)
        if not finite.all():
            at = np.unravel_index(int(np.argmin(finite)), value.shape)
            self._path.extend([tuple(int(i) for i in at)] if at else [])
            self._refuse_number(value, "is not finite", "noise cannot hide that, so make sure it cannot happen", dtype)
        if value.size and _gap(float(np.abs(value).max()), value.dtype) > self._resolution:
            self._refuse_coarse(value, dtype)

    def _leaf(self, leaf: Leaf) -> Leaf:
        # Scalars of one dtype share one leaf: a long list of them is common.
        if leaf.shape is None and leaf.dtype is not None:
            return self._leaves.setdefault(leaf.dtype, leaf)
        return leaf

    def _container(self, value: Any, kind: type) -> Any:
        named = kind is not tuple and issubclass(kind, tuple)
        if named and not _is_named_tuple(kind):
            self._refuse(value)
        if id(value) in self._open:
            raise PrivacyError(f"{self._where()} ({kind.__qualname__}) contains itself; noise needs a finite result")
        if len(self._path) >= _DEEPEST:
            raise PrivacyError(f"{self._where()} lies deeper than {_DEEPEST} containers; release a flatter result")
        self._open.add(id(value))
        if kind is dict:
            skeleton: Any = dict(self._items(value))
        elif kind is list:
            skeleton = list(self._parts(value))
        else:
            parts = tuple(self._parts(tuple.__iter__(value)))
            skeleton = tuple.__new__(kind, parts)
        self._open.remove(id(value))
        return skeleton

    def _parts(self, parts: Any) -> Iterator[Any]:
        for i, part in enumerate(parts):
            self._path.append(i)
            yield self.take(part)
            self._path.pop()

    def _items(self, value: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
        for key, part in value.items():
            if type(key) is not str:
                raise PrivacyError(
                    f"{self._where()} has a key of type {type(key).__qualname__}; str keys are wanted, as keys are "
                    "released as they are"
                )
            self._path.append(key)
            yield key, self.take(part)
            self._path.pop()

    def _where(self) -> str:
        return self._root + "".join(f"[{_step(step)}]" for step in self._path)

    def _refuse(self, value: Any, dtype: np.dtype[Any] | None = None) -> NoReturn:
        raise PrivacyError(
            f"{self._where()} is of type {_type(value, dtype)}, which noise cannot be added to; wanted are int, float, "
            f"real NumPy scalars and arrays, and lists, tuples and dicts of these{_advice(value)}"
        )

    def _refuse_number(self, value: Any, what: str, advice: str, dtype: np.dtype[Any] | None = None) -> NoReturn:
        raise PrivacyError(f"{self._where()} ({_type(value, dtype)}) {what}; {advice}")

    def _refuse_inexact(self, value: Any, dtype: np.dtype[Any] | None = None) -> NoReturn:
        self._refuse_number(
            value,
            "is beyond the whole numbers that a float64 holds",
            'Privacy(integers="discrete") keeps integers',
            dtype,
        )

    def _refuse_coarse(self, value: Any, dtype: np.dtype[Any] | None = None) -> NoReturn:
        raise PrivacyError(
            f"{self._where()} ({_type(value, dtype)}) is so large that floats of its kind lie further apart than the "
            "sensitivity; scale the result down, use a wider dtype, or correct the sensitivity"
        )


class _Taker:
    """Hands out a vector from its front."""

    def __init__(self, numbers: NDArray[Any]) -> None:
        self._numbers = numbers
        self._next = 0

    def take(self, size: int) -> NDArray[Any]:
        self._next += size
        return self._numbers[self._next - size : self._next]


def _build(skeleton: Any, floats: _Taker, ints: _Taker) -> Any:
    kind = type(skeleton)
    if kind is list:
        return [_build(part, floats, ints) for part in skeleton]
    if kind is dict:
        return {key: _build(part, floats, ints) for key, part in skeleton.items()}
    if kind is not Leaf:
        return tuple.__new__(kind, [_build(part, floats, ints) for part in tuple.__iter__(skeleton)])
    numbers = (ints if skeleton.integral else floats).take(skeleton.size)
    if skeleton.dtype is None:
        return numbers[0].item()
    numbers = _cast(numbers, skeleton.dtype)
    return numbers[0] if skeleton.shape is None else numbers.reshape(skeleton.shape)


def _cast(numbers: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    import numpy as np

    if dtype.kind == "f":
        limits = np.finfo(dtype)
        return numbers.clip(float(limits.min), float(limits.max)).astype(dtype)
    if dtype.itemsize < 8:
        bounds = np.iinfo(dtype)
        numbers = numbers.clip(int(bounds.min), int(bounds.max))
    elif dtype.kind == "u":
        numbers = numbers.clip(0)
    return numbers.astype(dtype)


def _is_named_tuple(kind: type) -> bool:
    fields = next((base.__dict__["_fields"] for base in kind.__mro__ if "_fields" in base.__dict__), None)
    return type(fields) is tuple and all(type(name) is str for name in fields)


def _gap(number: float, dtype: np.dtype[Any]) -> float:
    """How far `number` lies from the next float of its dtype (np.spacing overflows near the largest float)."""
    import numpy as np

    limits = np.finfo(dtype)
    return math.ldexp(float(limits.eps), math.frexp(max(number, float(limits.tiny)))[1] - 1)


def _step(step: str | int | tuple[int, ...]) -> str:
    if isinstance(step, tuple):
        return ", ".join(map(str, step))
    return json.dumps(step) if isinstance(step, str) else str(step)


def _type(value: Any, dtype: np.dtype[Any] | None) -> str:
    import numpy as np

    if dtype is None or type(value) is not np.ndarray:
        return type(value).__qualname__
    return f"array of {dtype.name}"


def _advice(value: Any) -> str:
    kind = type(value)
    if issubclass(kind, bool):
        return "; int(...) makes a number of it"
    if issubclass(kind, dict):
        return "; dict(...) makes a plain dict of it"
    if issubclass(kind, list):
        return "; list(...) makes a plain list of it"
    if kind.__module__.partition(".")[0] in {"pandas", "polars"}:
        return "; .to_numpy() makes an array of it"
    return ""
