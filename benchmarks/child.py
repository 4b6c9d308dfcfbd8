"""One measurement in a process of its own: its own imports, its own memory.

`python -m benchmarks.child CONTENDER BEGAN` reads the workload as JSON from the first line of standard input, runs
it, says "ran", waits for one more line (the parent looks at the memory meanwhile), checks the result, and writes the
measurement as JSON. `python -m benchmarks.child calibrate` writes the workload calibrated for this machine.
Whatever a contender prints goes to standard error.
"""

from __future__ import annotations

import os
import sys

import msgspec

from .contenders import CONTENDERS
from .workloads import Numpy, PurePython, from_dict


def main(arguments: list[str]) -> None:
    """Measure once, as the module says."""
    answer = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    workload = from_dict(msgspec.json.decode(sys.stdin.readline()))
    if arguments[0] == "calibrate":
        assert isinstance(workload, Numpy | PurePython)
        answer.write(msgspec.json.encode(workload.calibrated().to_dict()) + b"\n")
        return

    def ran() -> None:
        answer.write(b'"ran"\n')
        sys.stdin.readline()

    measurement = CONTENDERS[arguments[0]].run(workload, float(arguments[1]), ran)
    answer.write(msgspec.json.encode(measurement) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
