"""How much the cache takes, and what is removed: on request, or beyond a bound when it grows."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.support import cache
from ladder.support.progress import note
from ladder.support.units import parse_size, show_size
from ladder.support.workplace import PREFIX, locked, sweep

BOUND, BOUND_VARIABLE = "20GB", "LADDER_CACHE_SIZE"
IN_USE = 24 * 3600.0  # seconds: what was used since then may be needed by a run that goes on
CHECK_AFTER = 0.02  # of the bound: how much may be added until everything is counted again
SHOWN = 3


@dataclass
class Freed:
    """Bytes freed, and what could not be removed: path -> reason."""

    freed_bytes: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse to be silent on what is still there."""
        if self.failed:
            shown = [f"{path} ({reason})" for path, reason in list(self.failed.items())[:SHOWN]]
            more = len(self.failed) - len(shown)
            raise LadderError(
                f"could not remove {', '.join(shown)}" + (f" and {more} more" if more else "")
            )


@dataclass(frozen=True)
class Entry:
    """One entry: a folder or a file, and when it was used last."""

    path: Path
    size: int
    used: float


def size_bytes(folder: Path | None = None) -> int:
    """Bytes that the cache, or a folder or file in it, takes."""
    root = folder or cache.cache_folder()
    return sum(_size(path) for path in (root, *root.rglob("*")))


def _size(path: Path) -> int:
    """Zero for what is no file, or has gone meanwhile."""
    try:
        return path.lstat().st_size if path.is_file() else 0
    except OSError:
        return 0


def clear() -> Freed:
    """Remove everything but the marker; refused where the folder is not Ladder's."""
    return _remove_all(list(_entries()))


def prune(older: float | None = None, most: float | None = None, spare: float = 0) -> Freed:
    """Remove entries not used for ``older`` seconds, and the least recently used over ``most``.

    Those used within the last ``spare`` seconds stay.
    """
    entries, now = sorted(_entries(), key=lambda e: e.used), time.time()
    total, chosen = sum(e.size for e in entries), []
    for e in entries:
        too_old = older is not None and now - e.used > older
        too_much = most is not None and total > most and now - e.used >= spare
        if too_old or too_much:
            chosen.append(e)
            total -= e.size
    return _remove_all(chosen)


def _entries() -> Iterator[Entry]:
    """What the folders of all kinds hold; first, what killed runs left in them is swept."""
    root = cache.cache_folder()
    if not cache.is_own():
        raise LadderError(
            f"{root}: has no {cache.MARKER} of Ladder's, so nothing in it is removed; "
            f"delete it by hand, or set {cache.VARIABLE}"
        )
    for kind in (*cache.MAKERS, *cache.UNKEYED):
        if (root / kind).is_symlink() or not (root / kind).is_dir():
            continue
        sweep(root / kind)
        for path in sorted((root / kind).iterdir()):
            if not path.name.startswith(PREFIX):  # a run is writing there
                yield Entry(path, size_bytes(path), path.lstat().st_mtime)


def _remove_all(entries: list[Entry]) -> Freed:
    freed = Freed()
    for e in entries:
        _remove(e.path, freed)
        freed.freed_bytes += e.size - size_bytes(e.path)
    return freed


def _remove(path: Path, freed: Freed) -> None:
    def failed(_function: object, name: str, error: Any) -> None:
        if error[1].errno != errno.ENOTEMPTY:  # what is in it has its own reason
            freed.failed.setdefault(name, error[1].strerror or str(error[1]))

    try:
        if path.is_dir() and not path.is_symlink():
            with locked(path):  # nobody adds to it
                shutil.rmtree(path, onerror=failed)
        else:
            path.unlink()
    except OSError as error:
        freed.failed[str(path)] = error.strerror or str(error)


class _Growth:
    """Bytes that this process has added since everything was counted; None: never counted."""

    added: float | None = None


def keep_within_bound(place: Path, added: float) -> None:
    """After an entry grew: remove the least recently used over the bound, and say so."""
    if not place.is_relative_to(cache.cache_folder()) or not cache.is_own():
        return
    most = bound()
    if _Growth.added is not None:
        _Growth.added += added
        if _Growth.added < CHECK_AFTER * most:
            return
    _Growth.added = 0.0
    freed = prune(most=most, spare=IN_USE)
    if freed.freed_bytes:
        note(
            f"the cache was over {show_size(most)} ({BOUND_VARIABLE}): entries that were not used "
            f"for long are removed, {show_size(freed.freed_bytes)}"
        )


def bound() -> float:
    """What the cache may grow to, in bytes."""
    return parse_size(BOUND_VARIABLE, os.environ.get(BOUND_VARIABLE) or BOUND)
