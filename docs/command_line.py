"""A hook of mkdocs: puts the options of every command into docs/reference/cli.md."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

PAGE, MARK = "reference/cli.md", "<!-- commands -->"
# Typer's own writer of Markdown, so that the page cannot differ from --help.
COMMAND = ("-m", "typer", "ladder.cli.app", "utils", "docs", "--name", "ladder")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the mark of the page by a section for each command."""
    return markdown.replace(MARK, _sections()) if page.file.src_uri == PAGE else markdown


def _sections() -> str:
    done = subprocess.run([sys.executable, *COMMAND], capture_output=True, text=True, check=True)
    return re.sub(r"\A.*?(?=^## )", "", done.stdout, flags=re.DOTALL | re.MULTILINE)
