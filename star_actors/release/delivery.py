"""Delivery: where encoded results are written to, and what can be known of it before a run."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from pathlib import Path

from star_actors.errors import ConfigurationError

__all__ = ["check_paths", "is_stream", "numbered", "write"]

_MOST_LINKS = 40


def check_paths(
    paths: object,
    *,
    multiple_results: bool = False,
    count_known: int | None = None,
    name: str = "result_filepath",
) -> None:
    """Raise ConfigurationError for whatever can be known of `paths` before the first round.

    `paths` is None, one path (str or os.PathLike), or, with `multiple_results`, a list of them. `count_known` is the
    number of results where the call tells it (the length of an `output_type` list). `name` is the argument's name.
    """
    if paths is None:
        return
    if not isinstance(paths, (list, tuple)):
        _check_path(paths, name, multiple_results)
        return
    if not multiple_results:
        raise ConfigurationError(
            f"{name}={paths!r} is given, one path is wanted: a list of paths goes with multiple_results=True"
        )
    if not paths:
        raise ConfigurationError(f"{name}={paths!r} is given, one path for each result is wanted, or None for no file")
    if count_known is not None and count_known != len(paths):
        raise ConfigurationError(
            f"{name} is a list of {len(paths)} and output_type a list of {count_known}, lists of the same length are "
            "wanted: one path and one type for each result"
        )
    seen: dict[str, int] = {}
    for i, path in enumerate(paths):
        _check_path(path, f"{name}[{i}]", False)
        first = seen.setdefault(os.path.realpath(path), i)
        if first != i and not is_stream(path):
            raise ConfigurationError(
                f"{name}[{first}]={str(paths[first])!r} and {name}[{i}]={str(path)!r} are the same file, a path of its "
                "own for each result is wanted"
            )


def numbered(path: Path, count: int) -> list[Path]:
    """One path for each of `count` results: `out.pkl` becomes `out_1.pkl`, `out_2.pkl` and so on."""
    return [path.with_name(f"{path.stem}_{i}{path.suffix}") for i in range(1, count + 1)]


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is written as a stream: a device, a pipe, or a descriptor of this process (`/dev/stdout`)."""
    if _own_descriptor(path) is not None:
        return True
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write(path: Path, data: bytes) -> None:
    """Write `data` to `path`; missing parent folders are made. Raises OSError.

    A file is written whole or not at all: a temporary one beside it takes its place in one step, with the umask's
    mode, and never a wider one than the file before it had. A link is followed, to a target that need not exist.
    A stream is written directly.
    """
    descriptor = _own_descriptor(path)
    if descriptor is not None:
        # Opening /dev/stdout anew would cut off, or write over, what this process has already printed to a file.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
    elif is_stream(path):
        with path.open("wb") as file:
            file.write(data)
    else:
        _replace(Path(os.path.realpath(path)), data)


def _replace(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        raise IsADirectoryError("it is a folder")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError("it is read-only")
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    file = temporary.open("xb")
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(stat.S_IMODE(temporary.stat().st_mode & target.stat().st_mode))
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _own_descriptor(path: str | os.PathLike[str]) -> int | None:
    """The descriptor of this process that `path` names, link by link (`/dev/stdout` is 1); None where it names none."""
    folders = {os.path.realpath(folder) for folder in ("/dev/fd", "/proc/self/fd") if Path(folder).is_dir()}
    place = Path(path)
    for _ in range(_MOST_LINKS):
        place = Path(os.path.realpath(place.parent), place.name)
        if str(place.parent) in folders and place.name.isdecimal():
            return int(place.name)
        if not place.is_symlink():
            return None
        place = place.parent / place.readlink()
    return None


def _check_path(path: object, name: str, several: bool) -> None:
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigurationError(
            f"{name}={path!r} is given, a path is wanted, as str or os.PathLike, or with multiple_results=True a list "
            "of paths; leave it out to print the result"
        )
    text = os.fspath(path)
    given = f"{name}={text!r} is given"
    if not isinstance(text, str):
        raise ConfigurationError(f"{given}, a path as text is wanted: os.fsdecode() makes one from bytes")
    if not text:
        raise ConfigurationError(f"{given}, a path is wanted; leave it out to print the result")
    if text.startswith("~"):
        raise ConfigurationError(f"{given}, '~' is not expanded: give pathlib.Path({text!r}).expanduser()")
    if text.endswith(("/", os.sep)):
        raise ConfigurationError(f"{given}, a file is wanted, not a folder: add a file name")
    try:
        obstacle = _obstacle(text, several)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{given}, which cannot be written to ({error}): give another path") from error
    if obstacle is not None:
        raise ConfigurationError(f"{given}, {obstacle}")


def _obstacle(text: str, several: bool) -> str | None:
    """What stands in the way of writing to the path `text`; None where nothing does. Raises OSError, ValueError."""
    descriptor = _own_descriptor(text)
    if descriptor is not None:
        os.fstat(descriptor)
        return None
    place = Path(text)
    try:
        mode = place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        pass
    else:
        if stat.S_ISDIR(mode):
            return "a file is wanted, not a folder: add a file name"
        if stat.S_ISFIFO(mode) and several:
            return "which is a pipe and takes one result, with multiple_results=True: give a list, one path each"
        if stat.S_ISSOCK(mode):
            return "which is a socket and cannot be opened as a file: give another path"
        if not os.access(place, os.W_OK):
            return "which may not be written to: change its permissions, or give another path"
        if not stat.S_ISREG(mode):
            return None
    parents = Path(os.path.realpath(place)).parents
    nearest = next(folder for folder in parents if folder.exists())
    if not nearest.is_dir():
        return f"but {str(nearest)!r} is a file, a folder is wanted there: give another path"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"but no file may be made in the folder {str(nearest)!r}: change its permissions, or give another path"
    return None
