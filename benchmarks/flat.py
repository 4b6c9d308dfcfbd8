"""Whether many rounds and runs in one process leave anything behind: memory, tasks, threads, descriptors, files."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import gc
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .contenders import Contender
from .measurement import Stopwatch
from .workloads import Overhead, Workload

__all__ = ["Held", "drive", "held", "leaks"]

MEGABYTE = 1 << 20
SLACK = 4 * MEGABYTE
"""Bytes by which memory may differ without being a leak: 400 B a round of 10,000, 20 kB a run of 200.

A run keeps the scalars of every round by contract (some 24 bytes), and allocators keep what they like.
"""


@dataclass(frozen=True)
class Held:
    """What a process holds: resident bytes, threads, unfinished tasks, open descriptors, temporary files."""

    memory: int
    threads: int
    tasks: int
    descriptors: int
    files: int


def held(folder: Path) -> Held:
    """What this process holds now, after a full collection; `folder` is where its temporary files go."""
    for _ in range(2):
        gc.collect()
    _give_back()
    tasks = sum(isinstance(each, asyncio.Task) and not each.done() for each in gc.get_objects())
    files = sum(1 for _ in folder.rglob("*")) + len(_shared_memory())
    return Held(_resident(), len(_threads()), tasks, len(_descriptors()), files)


def leaks(before: Held, after: Held, slack: int = SLACK) -> list[str]:
    """What is held after and was not before; memory within `slack` bytes is not counted."""
    found = []
    if after.memory - before.memory > slack:
        grown = (after.memory - before.memory) / MEGABYTE
        found.append(f"memory grew by {grown:.1f} MiB, {slack / MEGABYTE:.1f} MiB are let pass")
    for name in ("threads", "tasks", "descriptors", "files"):
        old, new = getattr(before, name), getattr(after, name)
        if new > old:
            found.append(f"{name}: {old} before, {new} after")
    return found


def drive(
    contender: Contender,
    *,
    rounds: int,
    runs: int,
    n: int = 8,
    slack: int = SLACK,
    say: Callable[[str], object] = lambda _: None,
) -> list[str]:
    """Let a contender do `rounds` rounds in one run, then `runs` runs of a few rounds; return what leaked.

    A tenth of the runs is done first, so that caches and pools are filled. Then looks are taken before and after each
    part, and within the long run after a tenth of its rounds and at its last one. There threads may have come, since an
    engine may give a node that was slow one of its own; after the run they must have gone. A part in which something
    was left behind is done once more: a leak is there again, the stacks that a loaded machine's threads left are not.
    """

    def long() -> dict[str, tuple[Held, Held]]:
        before = held(folder)
        looks = _Looks(Overhead(n=n, rounds=rounds, warmup=1), folder)
        contender.drive(looks.workload, looks)
        early, late = looks.taken
        late = replace(late, threads=early.threads)
        return {f"within {rounds:,} rounds": (early, late), f"{rounds:,} rounds": (before, held(folder))}

    def many() -> dict[str, tuple[Held, Held]]:
        before = held(folder)
        _repeat(contender, n, runs)
        return {f"{runs:,} runs": (before, held(folder))}

    found: list[str] = []
    with tempfile.TemporaryDirectory() as name, Path(os.devnull).open("w") as nowhere:
        folder, tempdir = Path(name), tempfile.tempdir
        tempfile.tempdir = name
        # The blocking call prints its result each time.
        quiet = functools.partial(contextlib.redirect_stdout, nowhere)
        try:
            with quiet():
                _repeat(contender, n, max(1, runs // 10))
            for part in (long, many):
                with quiet():
                    looks = part()
                    if any(leaks(*pair, slack) for pair in looks.values()):
                        looks = part()
                for what, (before, after) in looks.items():
                    lost = leaks(before, after, slack)
                    found.extend(f"{contender.name}, {what}: {each}" for each in lost)
                    grown = (after.memory - before.memory) / MEGABYTE
                    told = "; ".join(lost) or "nothing left behind"
                    say(f"{contender.name}, {what}: memory {grown:+.1f} MiB, {told}")
        finally:
            tempfile.tempdir = tempdir
    return found


def _repeat(contender: Contender, n: int, runs: int) -> None:
    for _ in range(runs):
        workload = Overhead(n=n, rounds=3, warmup=1)
        contender.drive(workload, Stopwatch(workload))


class _Looks(Stopwatch):
    """Looks at what is held after a tenth of the rounds, and at the last."""

    def __init__(self, workload: Workload, folder: Path) -> None:
        super().__init__(workload)
        self.taken: list[Held] = []
        self._folder = folder
        self._ended = 0

    def lap(self, aggregate: Any = None) -> None:
        self._ended += 1
        if self._ended in (max(1, self.workload.rounds // 10), self.workload.rounds):
            self.taken.append(held(self._folder))


def _resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


def _threads() -> list[object]:
    # Threads that Python does not know of count too.
    tasks = Path("/proc/self/task")
    return list(tasks.iterdir()) if tasks.is_dir() else list(threading.enumerate())


def _descriptors() -> list[Path]:
    return list(Path("/proc/self/fd").iterdir())


def _shared_memory() -> set[int]:
    """The inodes of shared memory that no other process has open: ours, and what nobody will ever remove."""
    folder = Path("/dev/shm")
    if not (left := _inodes(folder)):
        return left
    device = folder.stat().st_dev
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                left -= _mapped(process, device)
                left -= _opened(process, device)
    # Another process may have removed some meanwhile.
    return left & _inodes(folder)


def _inodes(folder: Path) -> set[int]:
    return {entry.inode() for entry in os.scandir(folder)} if folder.is_dir() else set()


def _mapped(process: Path, device: int) -> set[int]:
    """The inodes on a device that a process has mapped; a semaphore's was mapped under another name."""
    name = f"{os.major(device):02x}:{os.minor(device):02x}"
    fields = (line.split() for line in (process / "maps").read_text().splitlines())
    return {int(inode) for _, _, _, where, inode, *_ in fields if where == name}


def _opened(process: Path, device: int) -> set[int]:
    """The inodes on a device that a process has open."""
    found: set[int] = set()
    for link in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            status = link.stat()
            if status.st_dev == device:
                found.add(status.st_ino)
    return found


def _give_back() -> None:
    # What the C library keeps of freed memory is not a leak.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
