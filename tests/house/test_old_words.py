"""Words that strangers stumbled on are not in the code, its tests and its messages."""

from __future__ import annotations

import re
from pathlib import Path

from sources import ROOT, python_files

OLD = (
    "wish",
    "wishes",
    "told",
    "beside",
    "besides",
    "behind",
    "in company",
    "goes on where",
    "cannot be meant",
    "makes good",
    "make good",
    "made good",
    "left alone",
    "LeftAlone",
    "weight-second",
    "put_costs",
)
PATTERN = re.compile(r"(?<![A-Za-z])(" + "|".join(OLD) + r")(?![A-Za-z])", re.IGNORECASE)
# Where an old name is read, so that it still works or says the new one.
READERS = {
    "ladder/ir/facts.py",
    "runtime/manifest.py",
    "passes/infra/registry.py",
    "ladder/support/results.py",
    "tests/runtime/test_manifest.py",
    "tests/support/test_moved.py",
    "tests/support/test_results.py",
    "tests/docs/test_words.py",
    "tests/house/test_old_words.py",
}


def old_words(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    return [
        f"{path.relative_to(ROOT)}:{number}: {found[0]}"
        for number, line in enumerate(lines, 1)
        for found in PATTERN.finditer(line)
    ]


def test_old_words_are_gone() -> None:
    files = [path for path in python_files() if str(path.relative_to(ROOT)) not in READERS]
    assert [row for path in files for row in old_words(path)] == []


def test_an_old_word_is_found(tmp_path: Path) -> None:
    assert PATTERN.search("# Told of it") and not PATTERN.search("Swish, withhold, outtold")
