"""The files of a GGUF checkpoint that was split, from the name of any of them."""

from __future__ import annotations

import re
from pathlib import Path

PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")


def parts_of(path: Path) -> list[Path]:
    """All files of the checkpoint in order, whether they exist or not; the path alone if whole."""
    match = PART.fullmatch(path.stem)
    if match is None:
        return [path]
    stem, count = match["stem"], int(match["count"])
    return [
        path.parent / f"{stem}-{i:05d}-of-{count:05d}{path.suffix}" for i in range(1, count + 1)
    ]
