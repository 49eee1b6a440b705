"""Private folders next to a target, where its successor is written; leftovers are swept.

Whoever works in such a folder holds a lock on it, which the system releases when the process ends:
a folder that can be locked was left by a run that was killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PREFIX = ".ladder-aside-"
OLD = "old-"  # in such a folder: what was moved out of a target's place, under the target's name


@contextmanager
def workplace(parent: Path) -> Iterator[Path]:
    """A new private folder in ``parent``, removed at the end."""
    with contextlib.suppress(OSError):
        sweep(parent)
    with ExitStack() as stack:
        folder = _own_folder(parent, stack)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _own_folder(parent: Path, stack: ExitStack) -> Path:
    """A new folder, locked; another process may sweep it before it is."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        with contextlib.suppress(FileNotFoundError):
            stack.enter_context(locked(folder))
            return folder


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder; ``FileNotFoundError`` if it has gone meanwhile.

    Without ``wait``: ``BlockingIOError`` if another has it. On a file system without locks nobody
    waits, and ``OSError`` says so to those who do not.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            if not wait:
                raise
        if not os.path.samestat(os.fstat(handle), os.stat(folder, follow_symlinks=False)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        yield
    finally:
        os.close(handle)


def sweep(parent: Path) -> None:
    """Remove what killed runs left in ``parent``; a target that was lost on the way comes back."""
    with os.scandir(parent) as entries:
        left = [entry.path for entry in entries if _is_own(entry)]
    for path in map(Path, left):
        with contextlib.suppress(OSError), locked(path, wait=False):
            for old in path.glob(f"{OLD}*/*"):
                if not os.path.lexists(parent / old.name):
                    os.rename(old, parent / old.name)
            shutil.rmtree(path, ignore_errors=True)


def _is_own(entry: os.DirEntry[str]) -> bool:
    """A folder of this user's with such a name."""
    if not entry.name.startswith(PREFIX) or not entry.is_dir(follow_symlinks=False):
        return False
    return entry.stat(follow_symlinks=False).st_uid == os.geteuid()
