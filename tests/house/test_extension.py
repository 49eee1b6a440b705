"""The files that an extension changes: those that name an existing one of its kind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import ROOT, own_modules


def words(path: Path) -> Iterator[str]:
    """The names and the strings in a file's code, without docstrings and comments."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "value"):
            word = getattr(node, field, None)
            if isinstance(word, str) and not isinstance(node, ast.Expr):
                yield word


def files_that_name(word: str) -> set[str]:
    """Ladder's files with a name or text of which ``word`` is a part: of ``pack_trits`` trits."""
    return {
        str(path.relative_to(ROOT))
        for path in own_modules().values()
        if any(word in other.lower().split("_") for other in words(path))
    }


def files_with_text(word: str) -> set[str]:
    """The files where it is a whole name or string."""
    found = own_modules().values()
    return {str(path.relative_to(ROOT)) for path in found if word in words(path)}


@pytest.mark.parametrize("name", ["e8m0", "e4m3"])
def test_a_scale_format_is_a_row_and_its_decoding(name: str) -> None:
    assert files_with_text(name) == {"ladder/ir/scale.py", "codegen/kernels/stored.py"}


def test_a_packing_is_a_row_its_bytes_and_its_unpacking() -> None:
    files = {"ladder/ir/storage.py", "codegen/layout.py", "codegen/kernels/unpack.py"}
    assert files_that_name("trits") | files_that_name("trit") == files
