"""Whether code draws from a global random generator, which every node has its own of on FLAME."""

from __future__ import annotations

import ctypes
import dis
import random
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

__all__ = ["drawn", "seeds_itself", "states"]

States = tuple[Any, Any]
_KEYS = 4 * 624
"""Bytes of a Mersenne Twister's key, which its position follows."""


def states() -> States:
    """What tells the states of the global generators of `random` and NumPy (None where it is not loaded) from others.

    NumPy's is not read whole: its position and its first word change with whatever is drawn, for a hundredth of the
    price.
    """
    return random.getstate(), _numpy_state()


def drawn(before: States, after: States) -> list[str]:
    """The generators that moved between two `states`."""
    names = ["random"] if before[0] != after[0] else []
    if before[1] is not None and after[1] is not None and before[1] != after[1]:
        names.append("numpy.random")
    return names


def seeds_itself(cls: type) -> bool:
    """Whether a class's methods name a generator's `seed`, as in `random.seed` or `np.random.seed`: then what they draw
    repeats, here and on FLAME."""
    return any(_names_seed(list(dis.get_instructions(code))) for code in _codes(cls))


def _names_seed(instructions: list[dis.Instruction]) -> bool:
    before = None
    for instruction in instructions:
        if instruction.argval in ("seed", "setstate", "set_state"):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                return True
            # `self.seed` is an attribute like any other; `random.seed` is not.
            of_module = before is not None and (before.opname == "LOAD_GLOBAL" or before.argval == "random")
            if of_module and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                return True
        before = instruction
    return False


def _codes(cls: type) -> Iterator[CodeType]:
    """The code of every method of a class and of the classes above it, but for those of this package."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in ("star_actors", "builtins"):
            continue
        for member in vars(base).values():
            function = getattr(member, "__func__", member)
            if isinstance(function, FunctionType):
                yield from _nested(function.__code__)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _numpy_state() -> Any:
    module = sys.modules.get("numpy.random")
    generator = None if module is None or not hasattr(module, "get_bit_generator") else module.get_bit_generator()
    if generator is None:
        return None
    if type(generator).__name__ != "MT19937":
        return repr(generator.state)
    address: int = generator.ctypes.state_address
    return ctypes.c_uint32.from_address(address).value, ctypes.c_int.from_address(address + _KEYS).value
