"""Make the folder of a new analysis."""

from __future__ import annotations

import importlib.util
import keyword
import shlex
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from star_actors.errors import ConfigurationError

__all__ = ["Project", "make_project"]

_TEMPLATE = ".template"
_NAME = "NAME"
"""Stands for the name of the analysis in the template, in the names of its files too."""


@dataclass(frozen=True)
class Project:
    """What was made: its parts, each with what it is, and the commands to go on with."""

    contents: dict[str, str]
    commands: list[str]

    @property
    def width(self) -> int:
        """The length of the longest name of a part."""
        return max(map(len, self.contents))


def make_project(path: Path) -> Project:
    """Make `path` a folder with an analysis of that name, its data and its test.

    Raises ConfigurationError, before anything is written, where the name is none for a Python module or is taken, or
    where the folder exists and is not empty.
    """
    name = path.resolve().name
    _check_name(name)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigurationError(f"{str(path)!r} exists already; a new or an empty folder is wanted")
    try:
        _copy(resources.files("star_actors.cli").joinpath("template"), path, name)
    except OSError as error:
        raise ConfigurationError(f"{str(path)!r} cannot be made: {error.strerror}") from error
    arguments = f"{name}.py --data data/node1 --data data/node2"
    enter = [] if path.resolve() == Path.cwd() else [f"cd {shlex.quote(str(path))}"]
    return Project(
        {
            f"{name}.py": "the analysis, with comments",
            "data/node1, data/node2": "made-up data, a folder for each site",
            f"test_{name}.py": "its test",
        },
        [*enter, f"star-actors run {arguments}", f"star-actors check {arguments}", "pytest"],
    )


def _check_name(name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        advice = "".join(char if char.isalnum() else "_" for char in name).strip("_")
        like = advice if advice.isidentifier() and not keyword.iskeyword(advice) else "my_analysis"
        raise ConfigurationError(
            f"{name!r} is given, a name for a Python module (letters, digits, underscores) is wanted, such as {like}"
        )
    if name.startswith("test_") or importlib.util.find_spec(name) is not None:
        taken = "of a test" if name.startswith("test_") else "of a module that is installed"
        raise ConfigurationError(f"{name!r} is given, the name {taken}; another one is wanted, such as my_{name}")


def _copy(source: Traversable, target: Path, name: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for part in source.iterdir():
        if part.is_dir():
            _copy(part, target / part.name, name)
        elif part.name.endswith(_TEMPLATE):
            text = part.read_text("utf-8").replace(_NAME, name)
            (target / part.name.removesuffix(_TEMPLATE).replace(_NAME, name)).write_text(text, "utf-8")
        else:
            (target / part.name).write_bytes(part.read_bytes())
