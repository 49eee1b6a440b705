"""The space that files take on a disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

CLUSTER = 4096  # bytes in which file systems count


def bytes_on_disk(files: Iterable[Path]) -> int:
    """The bytes of some files, in whole clusters."""
    return sum(-(-file.stat().st_size // CLUSTER) * CLUSTER for file in files)
