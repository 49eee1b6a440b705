"""The Python files of the project, for tests of the code itself."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("ladder", "passes", "codegen", "runtime")


def own_modules() -> dict[str, Path]:
    """Import name -> file; the folders at the root under the name that they import as."""
    found = {}
    for folder in FOLDERS:
        for path in _files(ROOT / folder):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts if folder == "ladder" else ("ladder", *parts))
            found[name.removesuffix(".__init__")] = path
    return found


def python_files() -> list[Path]:
    """Every Python file of the project, tests and benchmarks included, each once."""
    folders = (*FOLDERS, "tests", "benchmarks")
    return [path for folder in folders for path in _files(ROOT / folder)]


def _files(folder: Path) -> list[Path]:
    """``os.walk`` follows no links, so ``ladder/passes`` is not ``passes`` a second time."""
    found = [Path(where) / name for where, _, names in os.walk(folder) for name in names]
    return sorted(path for path in found if path.suffix == ".py")
