"""What an entry of the cache holds: ``entry.json`` has the size and SHA-256 of each of its files.

A file counts only with its row in it, which is written after it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ladder.errors import LadderError
from ladder.support.documents import parse_json
from ladder.support.fields import field

RECORD = "entry.json"
_sound: dict[Path, tuple[object, ...]] = {}  # files whose hash was right, as they were then


class Damaged(Exception):
    """A file of an entry, or its record, is not what was written."""


@dataclass(frozen=True)
class FileRow:
    """Size and hash of a file."""

    size: int
    sha256: str

    @staticmethod
    def of(path: Path) -> FileRow:
        return FileRow(path.stat().st_size, _sha256(path))


Record = dict[str, FileRow]


def read_record(place: Path) -> Record:
    """The rows by file name; none where there is no entry. ``Damaged`` if it cannot be read."""
    try:
        rows = field(parse_json((place / RECORD).read_bytes()), "files", dict)
        return {
            _inside(name): FileRow(field(row, "size", int), field(row, "sha256", str))
            for name, row in rows.items()
        }
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, LadderError) as error:
        raise Damaged(f"its {RECORD} cannot be read") from error


def _inside(name: str) -> str:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise LadderError(f"'{name}' is no file of the entry")
    return name


def write_record(place: Path, record: Record) -> None:
    """Write the rows; they are the last of an entry."""
    rows = {name: vars(row) for name, row in record.items()}
    (place / RECORD).write_text(json.dumps({"files": rows}))


def record_of(place: Path) -> Record:
    """The rows of all files of a folder, and of the folders in it."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): FileRow.of(path) for path in files}


def check_file(path: Path, row: FileRow) -> None:
    """``Damaged`` if a file is not as its row says; it is read once a process, while it stays."""
    try:
        found = path.stat()
        seen = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, row)
        if _sound.get(path) == seen:
            return
        if found.st_size != row.size:
            raise Damaged(f"{path.name} has {found.st_size} bytes, not {row.size}")
        if _sha256(path) != row.sha256:
            raise Damaged(f"the hash of {path.name} is not the one that was written")
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read ({error.strerror})") from error
    _sound[path] = seen


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
