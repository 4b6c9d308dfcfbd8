"""Values as users send them, what becomes of them on FLAME, and what this process has open."""

from __future__ import annotations

import pathlib
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np


class Tagged(np.ndarray):
    """An array with an attribute, which pickling keeps by its own __reduce__."""

    tag: list[str]

    def __reduce__(self) -> Any:
        return tagged, (np.asarray(self), self.tag)


def tagged(array: Any, tag: list[str]) -> Tagged:
    made: Tagged = array.view(Tagged)
    made.tag = tag
    return made


class Tensor:
    """Pickles as tensors do: a function and its buffer, out of band where the protocol can."""

    def __init__(self, data: bytearray) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Tensor, ((pickle.PickleBuffer(self.data) if protocol >= 5 else self.data),)


class Raises:
    """Its pickling raises a given exception."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


class UnpicklingFails(Exception):
    """As many exceptions are: made with two arguments, unpickled with one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


def frozen(array: Any) -> Any:
    array.setflags(write=False)
    return array


ARRAYS: dict[str, Callable[[], Any]] = {
    "C order": lambda: np.arange(12.0).reshape(3, 4),
    "Fortran order": lambda: np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "every other": lambda: np.arange(12)[::2],
    "backwards": lambda: np.arange(12)[::-1],
    "axes permuted": lambda: np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "zero dimensions": lambda: np.array(2.5),
    "empty": lambda: np.zeros((0, 3)),
    "empty text": lambda: np.array([], dtype="U0"),
    "big-endian": lambda: np.arange(5, dtype=">f8"),
    "axes in another order": lambda: np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2) + 1,
    "dates": lambda: np.array(["2024-01-01", "NaT"], dtype="M8[D]"),
    "text": lambda: np.array(["a", "bcd"]),
    "bytes": lambda: np.array([b"a", b"bcd"]),
    "complex": lambda: np.array([1 + 2j]),
    "NaN payload": lambda: np.array([0x7FF8_0000_0000_1234], dtype=np.uint64).view(np.float64),
    "read-only": lambda: frozen(np.arange(3.0)),
    "structured": lambda: np.array([(1, 2.0)], dtype=[("n", "i4"), ("x", "f8")]),
    "objects": lambda: np.array([[1], "two", None], dtype=object),
    "dtype with metadata": lambda: np.zeros(3, dtype=np.dtype("f8", metadata={"unit": ["mm"]})),
    "masked": lambda: np.ma.masked_array([1.0, 2.0], mask=[True, False]),
    "subclass": lambda: tagged(np.arange(3.0), ["a"]),
    "record": lambda: np.rec.array([(1, 2.0)], dtype=[("n", "i4"), ("x", "f8")]),
}


LARGE_ARRAYS: dict[str, Callable[[], Any]] = {
    "C order": lambda: np.arange(300_000.0).reshape(3, -1),
    "Fortran order": lambda: np.asfortranarray(np.arange(300_000.0).reshape(3, -1)),
    "every other": lambda: np.arange(600_000.0)[::2],
    "big-endian": lambda: np.arange(300_000, dtype=">f8"),
    "dates": lambda: np.arange(300_000).astype("M8[s]"),
    "text": lambda: np.full(100_000, "abc"),
    "read-only": lambda: frozen(np.arange(300_000.0)),
    "structured": lambda: np.ones(100_000, dtype=[("n", "i4"), ("x", "f8")]),
    "huge pages": lambda: np.arange(700_000.0),
}


def same(one: Any, other: Any) -> bool:
    """Equal bit for bit, types, dtypes and memory order included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (
            one.dtype == other.dtype
            and one.dtype.metadata == other.dtype.metadata
            and one.shape == other.shape
            and (one.strides == other.strides or one.size < 2)
            and one.flags.fnc == other.flags.fnc
            and (
                all(map(same, one.ravel().tolist(), other.ravel().tolist()))
                if one.dtype.hasobject
                else np.asarray(one).tobytes("A") == np.asarray(other).tobytes("A")
            )
            and getattr(one, "tag", None) == getattr(other, "tag", None)
            and np.array_equal(np.ma.getmaskarray(one), np.ma.getmaskarray(other))
        )
    if isinstance(one, dict):
        return list(map(repr, one)) == list(map(repr, other)) and all(map(same, one.values(), other.values()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


def through_flame(value: Any) -> Any:
    """What arrives on FLAME."""
    return pickle.loads(pickle.dumps(value, protocol=4))


def own_and_writable(array: Any, original: Any) -> bool:
    return array.flags.writeable and not np.shares_memory(array, original)


def descriptors() -> list[str]:
    """What the open descriptors of this process point to."""
    found = []
    for entry in pathlib.Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:  # the listing's own
            continue
    return found


def mapped_files() -> int:
    """How many mappings of our memory this process has."""
    return pathlib.Path("/proc/self/maps").read_text().count("memfd:star_actors")


def memory_files() -> int:
    return sum("memfd:star_actors" in name for name in descriptors())


def proportional_size() -> int:
    """The memory of this process in bytes, each shared page counted once."""
    lines = pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def run_script(source: str) -> str:
    """Run a script in a process of its own; gives what it printed."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
