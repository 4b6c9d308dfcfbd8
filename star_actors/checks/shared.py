"""State that nodes share here and would not on FLAME: module globals and class attributes that several change."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .walk import fingerprint

__all__ = ["SharedState", "Snapshot"]

Snapshot = dict[str, Any]
"""What the state that is watched looks like, by its name as the user would write it."""

_NOT_STATE = (type, FunctionType, ModuleType, property, classmethod, staticmethod, functools.cached_property)
_MISSING = "(missing)"


class SharedState:
    """The state that the methods of some classes can reach by a name: the attributes of the classes and of those above
    them, and the globals that their code names. Watched by comparing before and after a node's call.

    `found(name, node_ids)` is told, once for each name, when a second node has changed it.
    """

    def __init__(self, classes: list[type], found: Callable[[str, list[str]], None]) -> None:
        self._found = found
        self._lock = threading.Lock()
        self._classes = [
            base
            for base in dict.fromkeys(base for cls in classes for base in cls.__mro__)
            if not _is_ours(base.__module__) and base.__module__ not in ("builtins", "abc", "typing")
        ]
        self._globals = _globals_named(self._classes)
        self._last: Snapshot = {}
        self._changed: dict[str, list[str]] = {}

    def look(self) -> Snapshot:
        """The state as it is."""
        seen: Snapshot = {}
        for cls in self._classes:
            for name, value in list(vars(cls).items()):
                if not name.startswith(("__", "_abc_")) and _is_state(value):
                    seen[f"{cls.__name__}.{name}"] = fingerprint(value)
        for module, names, home in self._globals:
            for name in names:
                value = home.get(name, _MISSING)
                if _is_state(value):
                    seen[f"{module}.{name}"] = fingerprint(value)
        return seen

    def changed(self, node_id: str, before: Snapshot) -> None:
        """A call of a node is done, before which the state looked like `before`."""
        now = self.look()
        shared: list[tuple[str, list[str]]] = []
        with self._lock:
            last, self._last = self._last, now
            for name, value in now.items():
                # What has been so since another node's call was that node's doing.
                if value == before.get(name) or value == last.get(name, before.get(name)):
                    continue
                nodes = self._changed.setdefault(name, [])
                if node_id not in nodes:
                    nodes.append(node_id)
                    if len(nodes) == 2:
                        shared.append((name, list(nodes)))
        for name, nodes in shared:
            self._found(name, nodes)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "star_actors"


def _is_state(value: object) -> bool:
    """Whether a value is what programs keep state in: no function, class, module or descriptor, and no cache that a
    function keeps for itself."""
    return not isinstance(value, _NOT_STATE) and not callable(value) and not hasattr(type(value), "__get__")


def _globals_named(classes: list[type]) -> list[tuple[str, list[str], dict[str, Any]]]:
    """The globals that the code of classes names, and the functions of the same module that it names in turn; with the
    module's name and the dict that holds them."""
    names: dict[int, set[str]] = {}
    homes: dict[int, dict[str, Any]] = {}
    todo = [f for cls in classes for member in list(vars(cls).values()) for f in _functions(member)]
    seen: set[int] = set()
    while todo:
        function = todo.pop()
        home = function.__globals__
        if id(function) in seen or _is_ours(str(home.get("__name__", ""))):
            continue
        seen.add(id(function))
        homes[id(home)] = home
        used = names.setdefault(id(home), set())
        for code in _nested(function.__code__):
            for name in code.co_names:
                value = home.get(name, _MISSING)
                if isinstance(value, FunctionType) and value.__globals__ is home:
                    todo.append(value)
                elif name in home or name in _rebound(code):
                    used.add(name)
    return [(str(homes[key].get("__name__", "?")), sorted(used), homes[key]) for key, used in names.items() if used]


def _functions(member: Any) -> Iterator[FunctionType]:
    for function in (member, getattr(member, "__func__", None), getattr(member, "fget", None)):
        if isinstance(function, FunctionType):
            yield function


def _rebound(code: CodeType) -> set[str]:
    """The globals that a piece of code binds anew."""
    import dis

    return {str(i.argval) for i in dis.get_instructions(code) if i.opname == "STORE_GLOBAL"}


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
