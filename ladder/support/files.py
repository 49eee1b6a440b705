"""Writing without harm: aside first, then put in place in one step; a full disk leaves nothing.

A folder is replaced only where it is Ladder's own and holds nothing else. A link stays a link:
what it leads to is written. What is no regular file (``/dev/null``, a pipe) is written to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ladder.errors import LadderError
from ladder.support.exchange import exchange
from ladder.support.workplace import OLD, workplace

NEW = "new"
TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
# The names of the files that a folder may hold if it is Ladder's, or None where it is not.
Ours = Callable[[Path], Collection[str] | None]


def check_folder(target: Path, ours: Ours) -> None:
    """Refuse a folder with something in it that is not ours."""
    while True:
        with _writing(target):
            folder = _identity(target)
            fault = _fault(target, ours)
            if fault is None:
                return
            if folder == _identity(target):
                raise LadderError(f"{target}: {fault}")
        # Another writer has replaced it meanwhile: its files were compared with others' names.


def _identity(target: Path) -> tuple[int, int] | None:
    try:
        found = target.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _fault(target: Path, ours: Ours) -> str | None:
    """Why a target may not be replaced."""
    if not target.exists():
        return None
    if not target.is_dir():
        return "exists and is a file; give a folder with -o"
    try:
        with os.scandir(target) as entries:
            names = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except FileNotFoundError:  # another writer is at work
        return None
    known = ours(target) if names else ()
    if known is None:
        return "exists and is not a Ladder artifact; give another -o"
    other = sorted(name for name, regular in names.items() if name not in known or not regular)
    if not other:
        return None
    more = f" and {len(other) - 1} more" if len(other) > 1 else ""
    return f"holds '{other[0]}'{more}, which Ladder did not write; move it away, or give another -o"


@contextmanager
def folder_aside(target: Path, ours: Ours) -> Iterator[Path]:
    """A new folder that takes ``target``'s place when the block succeeds.

    An existing ``target`` is replaced only if it is ``ours`` and holds nothing else.
    """
    check_folder(target, ours)
    with new_folder(target, lambda path: check_folder(path, ours)) as aside:
        yield aside


@contextmanager
def new_folder(target: Path, check: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """The same for a target that is Ladder's; ``check`` refuses to lose what it replaces."""
    place = followed(target)
    with _workplace_of(place, target) as work:
        aside = work / NEW
        aside.mkdir()
        with full_disk_is_plain(target):
            yield aside
        with _writing(target):
            with contextlib.suppress(FileNotFoundError):
                shutil.copymode(place, aside)
            _put_folder(aside, place, work)
            if check is not None and aside.exists():
                _check_again(aside, place, check)


def _put_folder(aside: Path, place: Path, work: Path) -> None:
    """Into the place of nothing, of an empty folder, or of another: that is then ``aside``."""
    for number in range(1 << 30):
        try:
            os.rename(aside, place)
            return
        except OSError as error:
            if error.errno not in TAKEN:
                raise
        try:
            if exchange(aside, place):
                return
            old = work / f"{OLD}{number}"
            old.mkdir()
            os.rename(place, old / place.name)
        except FileNotFoundError:
            continue  # what was there has gone meanwhile


def _check_again(replaced: Path, place: Path, check: Callable[[Path], None]) -> None:
    """Something may have been put into the folder since it was checked: then it comes back."""
    try:
        check(replaced)
    except LadderError as error:
        exchange(replaced, place)
        raise LadderError(str(error).replace(str(replaced), str(place))) from None


@contextmanager
def file_aside(target: Path) -> Iterator[Path]:
    """A new file that takes ``target``'s place when the block succeeds."""
    with work_folder(target) as work:
        aside = work / followed(target).name
        with full_disk_is_plain(target):
            yield aside
        put_file(aside, target)


@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A private folder for files that ``put_file`` gives their names; removed at the end."""
    place = followed(target)
    if _is_special(place):
        with tempfile.TemporaryDirectory(prefix="ladder-") as folder:
            yield Path(folder)
        return
    with _workplace_of(place, target) as work:
        yield work


def put_file(aside: Path, target: Path) -> None:
    """Give a finished file its name; it has the permissions of the file that it replaces."""
    place = followed(target)
    with _writing(target):
        if _is_special(place):
            with aside.open("rb") as source, place.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            return
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(place, aside)
        os.replace(aside, place)


def _is_special(place: Path) -> bool:
    """Whether it is a device or a pipe; a folder is refused."""
    with _writing(place):
        if not place.exists():
            return False
        mode = place.stat().st_mode
    if stat.S_ISDIR(mode):
        raise LadderError(f"{place}: is a folder; give a file")
    return not stat.S_ISREG(mode)


def followed(target: Path) -> Path:
    """Where links lead to."""
    with _writing(target):
        return Path(os.path.realpath(target))


@contextmanager
def _workplace_of(place: Path, target: Path) -> Iterator[Path]:
    """A folder to write in; refused where nothing can be written."""
    with ExitStack() as stack:
        with _writing(target):
            place.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(workplace(place.parent))
        yield folder


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn what the system says of a target into one line."""
    try:
        with full_disk_is_plain(target):
            yield
    except OSError as error:
        raise LadderError(
            f"{target}: cannot be written ({error.strerror}); give another -o"
        ) from error


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
