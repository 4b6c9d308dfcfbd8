"""`python -m benchmarks`: measure star_actors beside its peers, check its aims, look for leaks."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from .aims import exit_code, judge, refusal
from .contenders import CONTENDERS
from .contenders.star import Star, StarAwaited, StarProcesses, StarThreads
from .flat import drive
from .report import tables, verdict_table, write
from .running import SIZES, cases, import_times, run
from .workloads import WORKLOADS

__all__ = ["main"]

FLAT = (Star, StarAwaited, StarThreads, StarProcesses)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0: done, 1: an aim missed or a leak, 2: asked for what cannot be done."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.flat and not options.check and not options.workloads:
        return _flat()
    if options.check:
        left_out = {name: why for name in options.contenders if (why := CONTENDERS[name].available()) is not None}
        why = refusal(options.contenders, left_out, options.repeats)
        if why is not None:
            print(f"{why}\nAll contenders: pip install -e '.[bench,plots,processes]'", file=sys.stderr)
            return 2
    if importlib.util.find_spec("matplotlib") is None:
        print("There will be no chart: pip install matplotlib", file=sys.stderr)
    workloads = cases(options.workloads or list(WORKLOADS), options.n)
    results = run(
        workloads,
        options.contenders,
        repeats=options.repeats,
        heavy_repeats=options.heavy_repeats,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    results.imports = import_times(options.repeats)
    verdicts = judge(results)
    print(tables(results))
    print(verdict_table(verdicts))
    for path in write(results, verdicts, options.out):
        print(f"Written: {path}", file=sys.stderr)
    code = exit_code(verdicts) if options.check else 0
    return max(code, _flat()) if options.flat else code


def _flat() -> int:
    from star_actors import History

    lost = []
    for cls in FLAT:
        # What a run remembers of its rounds is no leak; it is kept small here, so that a leak shows.
        contender = cls(history=History(max_bytes=1 << 16))
        lost += drive(contender, rounds=10_000, runs=200, say=print)
    return 1 if lost else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure star_actors beside its peers, interleaved in one run: table, chart, raw numbers.",
    )
    parser.add_argument("workloads", nargs="*", metavar="W1 ... W6", help="which workloads; default: all")
    parser.add_argument("--n", type=int, nargs="+", metavar="N", help=f"nodes of W1; default: {SIZES}")
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=list(CONTENDERS),
        default=list(CONTENDERS),
        metavar="NAME",
        help=f"default: all of {', '.join(CONTENDERS)}; those that are not installed are left out and named",
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="K", help="measurements of each; default: 5")
    parser.add_argument(
        "--heavy-repeats", type=int, default=2, metavar="K", help="measurements of those that start slowly; default: 2"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 where an aim is missed by more than the noise of the run; refuses to run (2) without the "
        "bare loop, naive anyio, pykka and one of Flower, pfl and vantage6",
    )
    parser.add_argument(
        "--flat",
        action="store_true",
        help="10,000 rounds and 200 runs in this process: exit with 1 where memory, a task, a thread, a file or a "
        "descriptor is left behind",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/benchmarks"),
        metavar="DIR",
        help="where raw.json, table.md and chart.png go; default: build/benchmarks",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
