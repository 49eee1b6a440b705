"""Safe writing: to a temporary name, then renamed; a full disk leaves no partial file."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ladder.errors import LadderError


def check_folder(target: Path, marker: str) -> None:
    """Refuse a folder that holds files not written by Ladder."""
    if target.exists() and not (target / marker).exists() and any(_entries(target)):
        raise LadderError(f"{target}: exists and is not a Ladder artifact; give another -o")


@contextmanager
def folder_aside(target: Path, marker: str) -> Iterator[Path]:
    """A temporary folder that replaces ``target`` when the ``with`` block succeeds.

    An existing ``target`` is replaced only if it holds ``marker``, which says that Ladder wrote it.
    """
    check_folder(target, marker)
    _make_folder(target)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with full_disk_is_plain(target):
            yield aside
        aside.chmod(0o755)
        old = target.with_name(f"{aside.name}.old")
        if target.exists():
            os.rename(target, old)  # readers keep the files that they have open
        os.replace(aside, target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _make_folder(target: Path) -> None:
    """Create the parent folder of ``target``; refuse if it cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(target, error.strerror) from error
    if not os.access(target.parent, os.W_OK):
        raise _cannot_write(target, "no permission")


def _cannot_write(target: Path, reason: str | None) -> LadderError:
    return LadderError(f"{target}: cannot be written ({reason}); give another -o")


def _entries(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        raise LadderError(f"{path}: exists and is a file; give a folder with -o")
    return path.iterdir()


@contextmanager
def file_aside(target: Path) -> Iterator[Path]:
    """A temporary file that replaces ``target`` when the ``with`` block succeeds."""
    _make_folder(target)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with full_disk_is_plain(target):
            yield aside
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def full_disk_is_plain(target: Path) -> Iterator[None]:
    """Turn "no space left" into a clear error of one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LadderError(
                f"{target}: the disk is full; nothing was written: free some space and run again"
            ) from error
        raise
