"""The code blocks of a page of the docs, and a way to run them: `python page_blocks.py PAGE` prints what each printed.

The Python blocks of a page run from top to bottom in one namespace, as one script that lies in the working folder, with
`await` allowed at the top as in a notebook. Blocks that await share one event loop; the others run outside of it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import json
import re
import sys
import types
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

__all__ = ["Block", "blocks_of", "run_blocks"]

FENCE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<mark>`{3,}|~{3,})(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)(?P=mark)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its `kind` (the word after the fence), what else stands there, and its text."""

    kind: str
    info: str
    code: str

    @property
    def printed(self) -> bool:
        """Whether it claims to be what the Python block before it printed."""
        return self.kind == "text" and 'title="Printed"' in self.info


def blocks_of(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found = []
    for match in FENCE.finditer(page):
        kind, _, info = match["info"].strip().partition(" ")
        found.append(Block(kind, info, dedent(match["code"])))
    return found


def run_blocks(blocks: Sequence[str], script: Path) -> list[str]:
    """Run Python blocks as `script`; gives what each printed. What one raises passes through."""
    script.write_text("\n".join(blocks), encoding="utf-8")
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    sys.modules["__main__"] = module
    printed = []
    line = 0
    with asyncio.Runner() as runner:
        for block in blocks:
            code = compile("\n" * line + block, script, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            with redirect_stdout(io.StringIO()) as output:
                outcome = eval(code, module.__dict__)  # a coroutine where the block awaits
                if inspect.iscoroutine(outcome):
                    runner.run(outcome)
            printed.append(output.getvalue())
            line += block.count("\n") + 1
    return printed


if __name__ == "__main__":
    page = Path(sys.argv[1])
    python = [block.code for block in blocks_of(page.read_text(encoding="utf-8")) if block.kind == "python"]
    print(json.dumps(run_blocks(python, Path("analysis.py"))))
