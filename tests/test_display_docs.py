"""The page docs/reports.md says what is so: its blocks run from top to bottom in an empty folder."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "reports.md"


def test_the_blocks_of_the_page_run_and_write_what_it_says(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) > 6
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(blocks))
    ran = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert "Converging: each round shrinks the change to 0.50 of the one before, to 0.00098 at the end." in ran.stdout
    made = {"run.html", "run.json", "run.png", "private.html", "private.json"}
    assert made <= {path.name for path in tmp_path.iterdir()}
