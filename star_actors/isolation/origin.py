"""Where a pickled value's classes come from."""

from __future__ import annotations

from typing import Any

from .kinds import immutable_types, is_plain_array
from .pickled import dump

__all__ = ["main_only_class"]

# A script or notebook; and a script as its spawned worker processes call it.
_SCRIPTS = {"__main__", "__mp_main__"}


def main_only_class(value: Any, *, pickled: bytes | None = None) -> str | None:
    """The first class or function in `value` that lives in the script or notebook itself, as `__main__.Model`.

    Such a value can be unpickled only where the same script runs, so not on FLAME. None where all its classes can be
    imported. `pickled` is the value's pickle where there is one (`Broadcast.pickled`); otherwise it is pickled here,
    which raises what pickling raises.
    """
    if pickled is None:
        if type(value) in immutable_types() or is_plain_array(value):
            return None
        pickled = dump(value)[0]
    if not any(name.encode() in pickled for name in _SCRIPTS):
        return None
    return _first_global(pickled)


def _first_global(pickled: bytes) -> str | None:
    # Protocols 4 and 5 push a global's module and name as the two strings before STACK_GLOBAL, either of them fetched
    # from the memo where it stood before.
    import pickletools

    strings: list[str | None] = [None, None]
    memo: dict[Any, str | None] = {}
    for opcode, argument, _ in pickletools.genops(pickled):
        match opcode.name:
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8":
                strings.append(argument)
            case "MEMOIZE":
                memo[len(memo)] = strings[-1]
            case "BINGET" | "LONG_BINGET":
                strings.append(memo.get(argument))
            case "STACK_GLOBAL":
                module, name = strings[-2:]
                if module in _SCRIPTS:
                    return f"{module}.{name}"
                strings.append(None)
            case "FRAME" | "PROTO":
                pass
            case _:
                strings.append(None)
        del strings[:-2]
    return None
