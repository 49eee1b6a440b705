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


def cache_folder() -> Path:
    """The cache's root."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "ladder")


def entry(kind: str, *parts: object) -> Path:
    """Where the result of ``kind`` for these inputs lies, or is to be put."""
    text = "\n".join(str(p) for p in (*parts, source_digest()))
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
    digest = hashlib.sha256()
    for folder in (root, root / "passes", root / "codegen", root / "ir", root / "frontend"):
        for path in sorted(folder.rglob("*.py") if folder != root else folder.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
