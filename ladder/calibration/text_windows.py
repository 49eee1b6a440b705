"""Calibration text: a UTF-8 file, or JSONL with a field "text", cut into windows of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladder.calibration.texts import (
    WIKIPEDIA,
    encode,
    read_text,
    start_of_text,
    tokenizer_of,
    wiki_text,
    without_special,
)
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.support.documents import parse_json

CHARACTERS = 24  # upper bound of the mean length of a token; a long text is cut by it
JSONL = (".jsonl", ".ndjson")
BUILT_IN = "Wikipedia articles of gensim's test data, second half"


@dataclass(frozen=True)
class Calibration:
    """``tokens`` is int64 [windows, tokens]; ``name`` names the text."""

    tokens: np.ndarray
    name: str


def calibration(source: Source, text: Path | None, windows: int, tokens: int) -> Calibration:
    """Windows spread evenly over ``text``, or over the built-in text by default.

    A text that is too short gives fewer windows, but at least one.
    """
    if windows < 1 or tokens < 2:
        raise LadderError(
            f"{windows} windows of {tokens} tokens: give at least one window of 2 tokens"
        )
    content = built_in_text() if text is None else calibration_text(text)
    name = BUILT_IN if text is None else str(text)
    found = _spread(source, content, windows, tokens)
    if found is None:
        tokenizer = tokenizer_of(source)
        start, ids = start_of_text(tokenizer), without_special(tokenizer, content)
        if len(start) + len(ids) < tokens:
            raise LadderError(
                f"{name}: {len(start) + len(ids)} tokens are less than one window of {tokens}; "
                "give more text, or shorter windows"
            )
        found = _even(ids, windows, tokens, start)
    return Calibration(np.array(found, np.int64), name)


def calibration_text(path: Path) -> str:
    """The text of a file; an empty or a binary file is refused."""
    content = read_text(path)
    if "\0" in content:
        raise LadderError(f"{path}: a binary file (it holds zero bytes); give a text")
    return _joined(path, content) if path.suffix in JSONL else content


def built_in_text() -> str:
    """The second half of the articles. The demo scores a model on the first ones."""
    from ladder.support.packages import package_file

    try:
        content = wiki_text(package_file(*WIKIPEDIA))
    except LadderError as error:
        raise LadderError(f"no calibration text was given, and {error}") from error
    return content[len(content) // 2 :]


def _joined(path: Path, content: str) -> str:
    texts = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            reason = getattr(error, "msg", error)
            raise LadderError(f"{path}:{number}: not JSON ({reason})") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise LadderError(
                f'{path}:{number}: no field "text"; give one object per line that has it'
            )
        texts.append(row["text"])
    content = "\n\n".join(texts)
    if not content.strip():
        raise LadderError(f"{path}: its texts are empty")
    return content


def _spread(source: Source, content: str, windows: int, tokens: int) -> list[list[int]] | None:
    """Windows from a long text, without encoding all of it; None if it is not long enough."""
    size = tokens * CHARACTERS
    if len(content) < 2 * windows * size:
        return None
    found = []
    for i in range(windows):
        start = content.find(" ", i * (len(content) // windows)) + 1
        ids = encode(source, content[start : start + size])
        if len(ids) < tokens:
            return None
        found.append(ids[:tokens])
    return found


def _even(ids: list[int], windows: int, tokens: int, start: list[int]) -> list[list[int]]:
    """Windows of a short text; each begins with ``start``, as a text of its own."""
    size = tokens - len(start)
    if size < 1:
        raise LadderError(f"windows of {tokens} tokens: the tokenizer begins with {len(start)}")
    count = min(windows, len(ids) // size)
    step = (len(ids) - size) // max(count - 1, 1)
    return [start + ids[i * step : i * step + size] for i in range(count)]
