"""The Markdown pages of the repository, and the prose in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^(?: {4}|\t).*$", re.MULTILINE)
SPAN = re.compile(r"`[^`\n]*`")


def pages() -> list[Path]:
    """The pages of the root, of the documentation, and of the issue templates."""
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / ".github").rglob("*.md")])


def name_of(page: Path) -> str:
    """The path from the root, for the names of tests."""
    return str(page.relative_to(ROOT))


def without_blocks(text: str) -> str:
    """The text without blocks of code, but with code inside a line."""
    return INDENTED.sub("", FENCED.sub("", text))


def prose(text: str) -> str:
    """The text without any code."""
    return SPAN.sub("", without_blocks(text))
