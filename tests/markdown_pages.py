"""The Markdown pages of the repository, and what of them is prose."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^(?: {4}|\t).*$", re.MULTILINE)
SPAN = re.compile(r"`[^`\n]*`")


def pages() -> list[Path]:
    """Every page that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in done.stdout.splitlines() if (path := ROOT / name).exists()]


def name_of(page: Path) -> str:
    """Its path from the root, for the names of tests."""
    return str(page.relative_to(ROOT))


def without_blocks(text: str) -> str:
    """Without blocks of code, but with code inside a line."""
    return INDENTED.sub("", FENCED.sub("", text))


def prose(text: str) -> str:
    """Without any code."""
    return SPAN.sub("", without_blocks(text))
