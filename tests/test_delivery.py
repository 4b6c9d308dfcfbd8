"""Delivery: files whole or not at all, links, devices and pipes, and what is refused before a run."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from star_actors.errors import ConfigurationError
from star_actors.release.delivery import check_paths, is_stream, numbered, write

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files: modes, pipes, descriptors")
NOBODY = 65534


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing more than `size` bytes to a file fails with EFBIG, for root too."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_missing_parent_folders_are_made(tmp_path: Path) -> None:
    write(tmp_path / "results" / "today" / "out.pkl", b"data")
    assert (tmp_path / "results" / "today" / "out.pkl").read_bytes() == b"data"


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a longer old content")
    write(tmp_path / "out", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": b"new"}


def test_a_reader_of_the_old_file_keeps_it_whole(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old content")
    with (tmp_path / "out").open("rb") as reader:
        write(tmp_path / "out", b"new")
        assert reader.read() == b"old content"


@posix
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    with umask(mask):
        write(tmp_path / "out", b"data")
    assert mode_of(tmp_path / "out") == mode


@posix
def test_a_private_file_stays_private_when_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "out").chmod(0o600)
    with umask(0o022):
        write(tmp_path / "out", b"new")
    assert mode_of(tmp_path / "out") == 0o600


@posix
def test_a_file_open_to_all_is_narrowed_to_the_umask_when_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "out").chmod(0o666)
    with umask(0o027):
        write(tmp_path / "out", b"new")
    assert mode_of(tmp_path / "out") == 0o640


@posix
def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    with largest_file(100), pytest.raises(OSError, match="File too large"):
        write(tmp_path / "out", b"x" * 1000)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": b"old"}


def test_a_folder_as_target_fails_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(IsADirectoryError):
        write(tmp_path / "out", b"data")
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


@posix
@pytest.mark.parametrize("exists", [True, False], ids=["target exists", "target is missing"])
def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "there" / "out"
    if exists:
        target.parent.mkdir()
        target.write_bytes(b"old")
    (tmp_path / "link").symlink_to("there/out")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert target.read_bytes() == b"new"


@posix
def test_a_link_in_a_loop_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        write(tmp_path / "a", b"data")


@posix
def test_a_pipe_is_written_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write(pipe, b"data")
    reader.join()
    assert received == [b"data"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@posix
def test_a_device_is_written_directly_and_stays_a_device() -> None:
    master, slave = os.openpty()
    try:
        terminal = Path(os.ttyname(slave))
        write(terminal, b"data")
        assert os.read(master, 100) == b"data"
        assert stat.S_ISCHR(terminal.stat().st_mode)
    finally:
        os.close(slave)
        os.close(master)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_device_that_is_full_is_an_error() -> None:
    with pytest.raises(OSError, match="No space left"):
        write(Path("/dev/full"), b"data")


WRITES_TO_STDOUT = """
from pathlib import Path
from star_actors.release.delivery import write
print("printed before")
write(Path({path!r}), b"the result\\n")
print("printed after")
"""


@posix
@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1"])
@pytest.mark.parametrize("target", ["file", "pipe"])
def test_dev_stdout_keeps_what_is_printed_before_and_after(tmp_path: Path, path: str, target: str) -> None:
    command = [sys.executable, "-c", WRITES_TO_STDOUT.format(path=path)]
    if target == "pipe":
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()
    else:
        with (tmp_path / "log").open("wb") as log:
            subprocess.run(command, check=True, stdout=log)
        text = (tmp_path / "log").read_text()
    assert text.splitlines() == ["printed before", "the result", "printed after"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("out.pkl", ["out_1.pkl", "out_2.pkl"]),
        ("./v1.2/out", ["v1.2/out_1", "v1.2/out_2"]),
        ("a.b/model.tar.gz", ["a.b/model.tar_1.gz", "a.b/model.tar_2.gz"]),
        (".hidden", [".hidden_1", ".hidden_2"]),
    ],
)
def test_numbers_go_to_the_stem(path: str, expected: list[str]) -> None:
    assert numbered(Path(path), 2) == [Path(name) for name in expected]


def test_paths_that_can_be_written_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"")
    check_paths(None)
    check_paths(str(tmp_path / "old"))
    check_paths(tmp_path / "new" / "folder" / "out.pkl")
    check_paths(tmp_path / "out.pkl", multiple_results=True)
    check_paths([tmp_path / "a", str(tmp_path / "b")], multiple_results=True, count_known=2)


def test_checking_writes_nothing(tmp_path: Path) -> None:
    check_paths([tmp_path / "new" / "a", tmp_path / "b"], multiple_results=True)
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/null", "/dev/fd/1"])
def test_devices_are_accepted(path: str) -> None:
    check_paths(path)
    check_paths(path, multiple_results=True)
    assert is_stream(path)


@posix
def test_a_dangling_link_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there/out")
    check_paths(tmp_path / "link")


@pytest.mark.parametrize(
    ("paths", "text"),
    [
        (3, "result_filepath=3 is given, a path is wanted"),
        (True, "result_filepath=True is given, a path is wanted"),
        ({"a"}, "result_filepath={'a'} is given, a path is wanted"),
        (b"out", "result_filepath=b'out' is given, a path is wanted"),
        ("", "result_filepath='' is given, a path is wanted"),
        ("~/out", "'~' is not expanded"),
        ("folder/", "a file is wanted, not a folder"),
        (".", "a file is wanted, not a folder"),
        ("a\0b", "null byte"),
        ("x" * 300, "File name too long|cannot be written to"),
        (["a"], "a list of paths goes with multiple_results=True"),
    ],
)
def test_what_is_no_path_is_refused(paths: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        check_paths(paths)


@pytest.mark.parametrize(
    ("paths", "text"),
    [
        ([], "one path for each result is wanted"),
        (["a", 1], r"result_filepath\[1\]=1 is given"),
        (["a", None], r"result_filepath\[1\]=None is given"),
        (["a", "./a"], r"result_filepath\[0\]='a' and result_filepath\[1\]='./a' are the same file"),
    ],
)
def test_a_list_with_a_wrong_path_is_refused(paths: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        check_paths(paths, multiple_results=True)


def test_a_path_of_bytes_is_refused() -> None:
    class BytesPath:
        def __fspath__(self) -> bytes:
            return b"out"

    with pytest.raises(ConfigurationError, match="a path as text is wanted"):
        check_paths(BytesPath())


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="a list of 2 and output_type a list of 3"):
        check_paths(["a", "b"], multiple_results=True, count_known=3)


def test_the_error_names_the_argument_as_the_caller_does() -> None:
    with pytest.raises(ConfigurationError, match=r"^filename='' is given"):
        check_paths("", name="filename")


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="is a file, a folder is wanted there"):
        check_paths(tmp_path / "file" / "deeper" / "out")


@posix
def test_two_links_to_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("out")
    with pytest.raises(ConfigurationError, match="are the same file"):
        check_paths([tmp_path / "a", tmp_path / "out"], multiple_results=True)


@posix
def test_a_link_in_a_loop_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(ConfigurationError, match="cannot be written to"):
        check_paths(tmp_path / "a")


@posix
def test_a_closed_descriptor_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be written to"):
        check_paths("/dev/fd/987654")


@posix
def test_one_pipe_for_several_results_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    check_paths(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="takes one result"):
        check_paths(tmp_path / "pipe", multiple_results=True)


@posix
def test_a_socket_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")  # a short path: tmp_path may be too long for a socket's name
        with pytest.raises(ConfigurationError, match="socket"):
            check_paths(f"{folder}/s")


CHECK_AS_NOBODY = """
import os, sys
sys.path[:0] = {path!r}
import star_actors.release.delivery as delivery
from star_actors.errors import ConfigurationError
if os.getuid() == 0:
    os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
try:
    delivery.check_paths({target!r})
except ConfigurationError as error:
    print(error)
"""


@posix
@pytest.mark.parametrize(
    ("target", "text"), [("locked/out", "no file may be made in the folder"), ("readonly", "may not be written to")]
)
def test_a_place_without_permission_is_refused(target: str, text: str) -> None:
    # Root may write anywhere, so root's tests ask as nobody; the folder is one that nobody can reach.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "locked").mkdir(mode=0o555)
        (folder / "readonly").write_bytes(b"")
        (folder / "readonly").chmod(0o444)
        script = CHECK_AS_NOBODY.format(path=sys.path, nobody=NOBODY, target=str(folder / target))
        done = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True)
    assert text in done.stdout
