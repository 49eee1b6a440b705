"""The content-addressed cache: traces, compiled artifacts, downloaded packages.

It lives in ``$LADDER_CACHE``, else ``~/.cache/ladder``. Keys hash what the result depends on: the
model's bytes, the options, the versions, and Ladder's own source.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import lru_cache
from pathlib import Path

VARIABLE = "LADDER_CACHE"
# Packages that results follow from, beside the modules of the root.
MAKERS = ("passes", "codegen", "ir", "frontend", "calibrated", "sensitivity", "planning")


def cache_folder() -> Path:
    """The cache's root."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "ladder")


def entry(kind: str, *parts: object) -> Path:
    """Where the result of ``kind`` for these inputs lies, or is to be put."""
    return place(kind, *parts, source_digest())


def place(kind: str, *parts: object) -> Path:
    """As ``entry``, for what does not depend on all of Ladder's source."""
    text = "\n".join(str(p) for p in parts)
    return cache_folder() / kind / hashlib.sha256(text.encode()).hexdigest()[:32]


def clear() -> int:
    """Remove everything; returns the bytes freed."""
    size = size_bytes()
    shutil.rmtree(cache_folder(), ignore_errors=True)
    return size


def size_bytes() -> int:
    """Bytes the cache takes."""
    root = cache_folder()
    return sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) if root.exists() else 0


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Hash of Ladder's own Python files: another version of the code is another entry."""
    root = Path(__file__).parent
    folders = [root / name for name in MAKERS]
    return _digest(*sorted(root.glob("*.py")), *(f for d in folders for f in _files(d)))


@lru_cache(maxsize=1)
def kernel_digest() -> str:
    """Hash of the files that make kernels: times that were measured hold for these alone."""
    return _digest(*_files(Path(__file__).parent / "codegen"))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()
