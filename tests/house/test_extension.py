"""What an extension touches: the files that name one of its kind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import ROOT, own_modules


def words(path: Path) -> Iterator[str]:
    """The names and the texts of a file's code, without docstrings and comments."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "value"):
            word = getattr(node, field, None)
            if isinstance(word, str) and not isinstance(node, ast.Expr):
                yield word


def files_that_name(word: str, within: bool = False) -> set[str]:
    """Ladder's files with a name or text that is ``word``, or ``within`` which it stands."""
    found = set()
    for path in own_modules().values():
        if any(word == other or (within and word in other.split("_")) for other in words(path)):
            found.add(str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("name", ["e8m0", "e4m3"])
def test_a_scale_format_is_a_row_and_its_decoding(name: str) -> None:
    assert files_that_name(name) == {"ladder/ir/scale.py", "codegen/kernels/stored.py"}
