"""The part of a page that a command writes, between two marks; the rest is written by people."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ladder.errors import LadderError
from ladder.support.files import file_aside


def marks(name: str) -> tuple[str, str]:
    """The lines before and after the part called ``name``."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def around_marks(page: Path, name: str) -> tuple[str, str]:
    """The texts before and after the part; a page that has no such part is refused."""
    begin, end = marks(name)
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise LadderError(f"{page}: cannot be read: {error.strerror}") from error
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise LadderError(f"{page}: has no lines '{begin}' and '{end}' to write between")
    return before, after


def write_between_marks(page: Path, name: str, lines: Iterable[str]) -> None:
    """Replace the part called ``name``."""
    before, after = around_marks(page, name)
    begin, end = marks(name)
    body = "\n".join(lines)
    with file_aside(page) as aside:
        aside.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")
