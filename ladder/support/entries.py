"""Entries of the cache: every file is checked before it is used, and damaged ones are made again.

An entry is a folder. It is put in place whole (``new_entry``), or grows file by file (``put``), so
that a killed run resumes. Several processes may read and add at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ladder.errors import LadderError
from ladder.support.cache import prepare
from ladder.support.cache_space import keep_within_bound
from ladder.support.entry_record import (
    RECORD,
    Damaged,
    FileRow,
    Record,
    check_file,
    read_record,
    record_of,
    write_record,
)
from ladder.support.files import full_disk_is_plain, new_folder
from ladder.support.progress import note
from ladder.support.workplace import locked, workplace


def whole(place: Path, last: str) -> bool:
    """Whether an entry has its file ``last``, and every file is as it was written.

    Damaged ones are reported and removed, and ``last`` with them: they are to be made again.
    """
    names = _names(place)
    sound = [has(place, name) for name in names]
    if last not in names:
        return False
    if not all(sound):
        drop(place, last)
        return False
    return True


def whole_folder(place: Path) -> bool:
    """The same where no file is the last. Earlier versions left no record: theirs is made now."""
    if not place.is_dir():
        return False
    with locked(place):
        if not (place / RECORD).exists():
            _replace_record(place, record_of(place))
    names = _names(place)
    if names and all([has(place, name) for name in names]):
        return True
    shutil.rmtree(place)
    return False


def has(place: Path, name: str) -> bool:
    """Whether an entry has a file as it was written; a damaged one is reported and removed."""
    try:
        found = _is_sound(place, name)
    except Damaged:
        found = _is_sound_now(place, name)
    if found:
        with contextlib.suppress(OSError):  # of others, on a read-only disk
            os.utime(place)  # the time of its last use
    return found


def _names(place: Path) -> list[str]:
    try:
        return list(read_record(place))
    except Damaged:
        _is_sound_now(place, RECORD)
        return []


def _is_sound(place: Path, name: str) -> bool:
    row = read_record(place).get(name)
    if row is None:
        return False
    check_file(place / name, row)
    return True


def _is_sound_now(place: Path, name: str) -> bool:
    """The same while nobody writes."""
    with contextlib.suppress(FileNotFoundError), locked(place):
        try:
            return _is_sound(place, name)
        except Damaged as damage:
            note(f"{place}: damaged ({damage}); it is made again")
            _forget(place, name)
    return False


def drop(place: Path, name: str) -> None:
    """Remove a file of an entry, if it has it."""
    with contextlib.suppress(FileNotFoundError), locked(place):
        _forget(place, name)


def _forget(place: Path, name: str) -> None:
    """Remove the row, then the file; of a record that cannot be read, everything."""
    try:
        record = read_record(place)
    except Damaged:
        (place / RECORD).unlink()
        return
    if record.pop(name, None) is not None:
        _replace_record(place, record)
    (place / name).unlink(missing_ok=True)


def _replace_record(place: Path, record: Record) -> None:
    with workplace(place.parent) as work:
        write_record(work, record)
        os.replace(work / RECORD, place / RECORD)


@contextmanager
def put(place: Path, name: str) -> Iterator[Path]:
    """A new file of an entry, instead of the one that it has, when the block succeeds."""
    prepare(place.parent)
    with workplace(place.parent) as work, full_disk_is_plain(place):
        yield work / name
        row = FileRow.of(work / name)
        _add(place, work / name, row)
    keep_within_bound(place, row.size)


def _add(place: Path, aside: Path, row: FileRow) -> None:
    """A run that is killed in here leaves a file without a row, and no row of another file."""
    while True:
        prepare(place)
        with contextlib.suppress(FileNotFoundError), locked(place):  # or it was just pruned
            _forget(place, aside.name)
            os.replace(aside, place / aside.name)
            _replace_record(place, {**read_record(place), aside.name: row})
            return


@contextmanager
def new_entry(place: Path) -> Iterator[Path]:
    """A folder that becomes the entry, whole, when the block succeeds."""
    prepare(place.parent)
    with new_folder(place) as aside:
        aside.chmod(0o700)
        yield aside
        record = record_of(aside)
        write_record(aside, record)
    keep_within_bound(place, sum(row.size for row in record.values()))


def copy(place: Path, target: Path) -> None:
    """Copy the files of an entry into a folder; the copies are checked, not what was copied."""
    for name, row in read_record(place).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place / name, target / name)
        try:
            check_file(target / name, row)
        except Damaged as damage:
            raise LadderError(f"{place}: changed while it was read ({damage}); run again") from None
