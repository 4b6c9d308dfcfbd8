"""Find the two classes of an analysis in a Python file."""

from __future__ import annotations

import ast
import importlib.util
import sys
import tokenize
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from star_actors.errors import ConfigurationError, StarError
from star_actors.nodes import StarAggregator, StarAnalyzer

__all__ = ["Analysis", "FileError", "load_analysis"]

_TESTERS = ("StarModelTester", "AsyncStarModelTester")


class FileError(StarError):
    """The file's own code failed while it was read; `__cause__` is what it raised."""


class Analysis(NamedTuple):
    """The two classes of an analysis."""

    analyzer: type[StarAnalyzer]
    aggregator: type[StarAggregator]


def load_analysis(path: Path, analyzer: str | None = None, aggregator: str | None = None) -> Analysis:
    """Import the file and give its two classes; what stands under `if __name__ == "__main__"` does not run.

    `analyzer` and `aggregator` name the classes where the file has several. Otherwise it must define one of each; a
    class that another one in the file derives from does not count, and an imported one only where none is defined.
    The file's folder comes first on the module path, as in `python file.py`.

    Raises ConfigurationError where the file is no importable module, runs a tester while it is imported, or has not
    one class of each kind; FileError where its own code raises.
    """
    module = _imported(path)
    return Analysis(
        _found(module, path, "analyzer", StarAnalyzer, analyzer),
        _found(module, path, "aggregator", StarAggregator, aggregator),
    )


def _imported(path: Path) -> ModuleType:
    name, file = path.stem, path.resolve()
    if path.suffix != ".py" or "." in name:
        raise ConfigurationError(f"{str(path)!r} is given, a Python file with a name such as my_analysis.py is wanted")
    if name in sys.modules or name in sys.builtin_module_names:
        raise ConfigurationError(
            f"{path.name} has the name of a module that Python has loaded already ({name}), so that the two would be "
            "mixed up: give the file another name"
        )
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # the suffix is .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    sys.modules[name] = module  # nodes in other processes and pickle find the classes by this name
    try:
        _check_guarded(path)
        spec.loader.exec_module(module)
    except (ConfigurationError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too: a script that ends the process must not end this one
        raise FileError(f"{path.name} cannot be loaded:\n\n{_told(error, file)}") from error
    return module


def _told(error: BaseException, file: Path) -> str:
    """What an exception says, with the lines from the file on that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, frame in enumerate(frames) if frame.filename == str(file)), len(frames))
    lines = [*traceback.format_list(frames[first:]), *traceback.format_exception_only(error)]
    return "".join(lines).rstrip()


def _check_guarded(path: Path) -> None:
    """Raise ConfigurationError where importing the file would run a tester, on data of its own."""
    with tokenize.open(path) as source:
        tree = ast.parse(source.read(), str(path.resolve()))
    for call in _calls_on_import(tree):
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
        if called in _TESTERS:
            raise ConfigurationError(
                f"{path.name} calls {called} in line {call.lineno}, which would run whenever the file is imported: put "
                'it under if __name__ == "__main__":'
            )


def _calls_on_import(node: ast.AST) -> Iterator[ast.Call]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "__name__" in {getattr(part, "id", None) for part in ast.walk(child.test)}:
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from _calls_on_import(child)


def _found(module: ModuleType, path: Path, role: str, base: type[Any], wanted: str | None) -> type[Any]:
    classes = [
        value
        for value in dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
        if issubclass(value, base) and value is not base
    ]
    if wanted is not None:
        named = getattr(module, wanted, None)
        if isinstance(named, type) and issubclass(named, base):
            return named
        what = "no class" if named is None else f"{wanted}, which is no {base.__name__},"
        raise ConfigurationError(
            f"--{role} {wanted} is given, and {path.name} has {what}{_listed(wanted, named, classes)}"
        )
    own = [cls for cls in classes if cls.__module__ == module.__name__] or classes
    leaves = [cls for cls in own if not any(other is not cls and issubclass(other, cls) for other in own)]
    if len(leaves) == 1:
        return leaves[0]
    if not leaves:
        raise ConfigurationError(
            f"{path.name} defines no {role}: a class My{role.title()}({base.__name__}) is wanted at the top "
            "level of the file"
        )
    names = ", ".join(cls.__name__ for cls in leaves)
    raise ConfigurationError(
        f"{path.name} has {len(leaves)} {role}s, {names}: say which, as in --{role} {leaves[0].__name__}"
    )


def _listed(wanted: str, named: object, classes: list[type[Any]]) -> str:
    names = ", ".join(cls.__name__ for cls in classes)
    of_that_name = " of that name" if named is None else ""
    return f"{of_that_name}; it has {names}" if names else f"{of_that_name}, nor another that would do"
