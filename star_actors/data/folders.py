"""Folders of files as data_splits, in the shapes that FLAME hands over."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, overload

from star_actors.errors import ConfigurationError
from star_actors.options import one_of

from .bundles import is_bundle

__all__ = ["from_folders"]

Folder = str | os.PathLike[str]


@overload
def from_folders(*folders: Folder, data_type: Literal["s3"] = "s3") -> list[list[dict[str, bytes]]]: ...


@overload
def from_folders(*folders: Folder, data_type: Literal["fhir"]) -> list[list[dict[str, dict[str, Any]]]]: ...


def from_folders(*folders: Folder, data_type: str = "s3") -> list[Any]:
    """Read one folder per node into data_splits as FLAME gives them to an analyzer.

    Arguments:
        folders: one folder for each node, in the order of the nodes.
        data_type: "s3" or "fhir", as it goes to the tester.

    Returns one split per folder, a list with one source:

    - "s3": `[{name: bytes}]`, every file in the folder and the folders below. Names are paths relative to the folder
      with `/` between their parts (`"visits/2024.csv"`), sorted.
    - "fhir": `[{query: bundle}]`, every `.json` file as a parsed bundle, named by its path without `.json`
      (`Patient.json` becomes `"Patient"`, as if it were the query). Other files are left out.

    Files and folders whose names begin with a dot are left out. Symbolic links are followed.

    Raises ConfigurationError for a folder that is missing, is a file, or holds nothing to read; for a link that leads
    nowhere or back to a folder above it; and, with "fhir", for a `.json` file that does not parse or is not a Bundle.

    Source: FLAME's `get_s3_data` and `get_fhir_data`.
    """
    one_of("data_type", data_type, ("s3", "fhir"))
    if not folders:
        raise ConfigurationError("from_folders() was given no folder, one per node is wanted")
    roots = [_checked(folder) for folder in folders]
    return [[_read_bundles(root) if data_type == "fhir" else _read_files(root)] for root in roots]


def _checked(folder: object) -> Path:
    if not isinstance(folder, str | os.PathLike):
        advice = ": from_folders(*folders) hands over a list's items" if isinstance(folder, list | tuple) else ""
        raise ConfigurationError(f"from_folders() was given {type(folder).__name__}, a folder's path is wanted{advice}")
    path = Path(folder)
    if not path.exists():
        raise ConfigurationError(f"folder {str(path)!r} does not exist (seen from {str(Path.cwd())!r})")
    if not path.is_dir():
        raise ConfigurationError(f"{str(path)!r} is a file, a folder is wanted, such as {str(path.parent)!r}")
    return path


def _read_files(root: Path) -> dict[str, bytes]:
    files = {path.relative_to(root).as_posix(): path for path in _files(root, ())}
    if not files:
        raise ConfigurationError(f"folder {str(root)!r} holds no file that is not hidden")
    return {name: _content(files[name]) for name in sorted(files)}


def _read_bundles(root: Path) -> dict[str, dict[str, Any]]:
    files: dict[str, Path] = {}
    for path in _files(root, ()):
        if path.suffix.lower() != ".json":
            continue
        query = path.relative_to(root).with_suffix("").as_posix()
        if query in files:
            raise ConfigurationError(f"{str(path)!r} and {str(files[query])!r} would both be the query {query!r}")
        files[query] = path
    if not files:
        raise ConfigurationError(f"folder {str(root)!r} holds no .json file, and data_type='fhir' reads bundles")
    return {query: _bundle(files[query]) for query in sorted(files)}


def _files(folder: Path, above: tuple[Path, ...]) -> list[Path]:
    real = folder.resolve()
    if real in above:
        raise ConfigurationError(f"{str(folder)!r} links back to {str(real)!r} above it; remove the link")
    found: list[Path] = []
    for path in _listed(folder):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += _files(path, (*above, real))
        elif path.is_file():
            found.append(path)
        elif path.is_symlink():
            raise ConfigurationError(f"{str(path)!r} links to {str(path.readlink())!r}, which does not exist")
        else:  # reading a pipe or a device could wait for ever
            raise ConfigurationError(f"{str(path)!r} is neither a file nor a folder; remove it from the data")
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ConfigurationError(f"folder {str(folder)!r} cannot be listed: {error.strerror}") from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"file {str(path)!r} cannot be read: {error.strerror}") from error


def _bundle(path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(_content(path))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{str(path)!r} does not parse as JSON: {error}") from error
    if not is_bundle(parsed):
        kind = parsed.get("resourceType") if isinstance(parsed, dict) else None
        given = f"resourceType {kind!r}" if kind is not None else f"a JSON {type(parsed).__name__} without resourceType"
        raise ConfigurationError(f"{str(path)!r} is {given}, a FHIR Bundle is wanted; keep other files elsewhere")
    return parsed  # type: ignore[no-any-return]
