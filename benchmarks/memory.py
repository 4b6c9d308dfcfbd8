"""How much memory a tree of processes holds, with shared pages counted once."""

from __future__ import annotations

import contextlib
import resource
import sys
import threading
import time
from pathlib import Path

__all__ = ["Sampler", "descendants", "high_water", "proportional"]

_PROC = Path("/proc")


def high_water() -> int:
    """The most resident memory that this process ever had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def descendants(pid: int) -> list[int]:
    """The process and all that it started, directly or not; those that have ended meanwhile are left out."""
    found, queue = [], [pid]
    while queue:
        each = queue.pop()
        found.append(each)
        for task in _listed(_PROC / str(each) / "task"):
            with contextlib.suppress(OSError):
                queue += [int(child) for child in (task / "children").read_text().split()]
    return found


def proportional(pid: int) -> int:
    """Bytes that one process holds (PSS): every page divided by the number of mappings that share it; 0 if it ended.

    Unlike resident memory, it counts a page that a process maps a thousand times once.
    """
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


class Sampler:
    """Watches a tree of processes from outside, in a thread, and keeps the most memory it ever saw.

    It spends at most `duty` of a core, so that timings taken meanwhile hardly notice it. Where the system has no
    `/proc/PID/smaps_rollup` the peak stays 0.
    """

    def __init__(self, pid: int, *, duty: float = 0.03) -> None:
        self.peak = 0
        self._pid = pid
        self._pause = 1 / duty - 1
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def sample(self) -> None:
        """Look once, now."""
        self.peak = max(self.peak, sum(proportional(pid) for pid in descendants(self._pid)))

    def _watch(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            begin = time.perf_counter()
            self.sample()
            pause = max(0.005, self._pause * (time.perf_counter() - begin))


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
