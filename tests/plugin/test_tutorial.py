"""The tutorial of docs/guide/tvm.md runs as it is written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "tvm.md"


@pytest.mark.models
@pytest.mark.kernels
def test_the_tutorial_runs(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## Targets")[0]
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    script = tmp_path / "tutorial.py"
    script.write_text("\n".join(blocks))
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
