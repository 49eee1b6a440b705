"""The state of a measurement: one line of JSON for each score, appended when it is known.

Lines are synchronised to disk, so that a killed run loses only unfinished scores. A truncated last
line is ignored and written again. Types are not part of the key, so a later run can add types.
A line has a check sum of its own, because several processes may add to one file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ladder.blockwise.weights import Task
from ladder.errors import LadderError
from ladder.support.documents import is_number, parse_json
from ladder.support.files import file_aside, full_disk_is_plain
from ladder.support.progress import note

FORMAT = 2  # since 2, gptq improves scales and codes in turn
Scores = dict[str, float]
KEYS, CHECK = ("group", "type", "scores"), "check"  # of a line


@dataclass(frozen=True)
class Key:
    """All that scores depend on, except types. There are digests of the model and the feeds."""

    model: str
    text: str
    windows: int
    tokens: int
    method: str
    format: int = FORMAT


NAMES = {
    "model": "another model",
    "text": "another calibration text",
    "windows": "a different number of windows",
    "tokens": "windows of another length",
    "method": "another rounding",
    "format": "another version of Ladder",
}


class State:
    """The scores known so far, and the file that they are added to."""

    def __init__(self, path: Path, key: Key, own: bool = False) -> None:
        """Read ``path`` if it is there; refuse it where it belongs to another measurement.

        One of the cache's ``own`` can only be damaged: then it is begun anew.
        """
        self.path, self.scores = path, dict[Task, Scores]()
        try:
            lines = _lines(path)
            if lines:
                _check(path, lines[0], key)
        except LadderError:
            if not own:
                raise
            note(f"{path}: damaged; it is made again")
            lines = []
        sound = [line for line in lines[1:] if _is_sound(line, own)]
        if len(sound) < len(lines[1:]):
            note(f"{path}: {len(lines[1:]) - len(sound)} scores are damaged; they are made again")
        for line in sound:
            scores = {name: float(score) for name, score in line["scores"].items()}
            self.scores[Task(line["group"], line["type"])] = scores
        self._begin([asdict(key), *map(_checked, sound)])

    def add(self, found: Iterable[tuple[Task, Scores]]) -> None:
        """Append scores. They are on disk when this returns."""
        with full_disk_is_plain(self.path), self.path.open("a", encoding="utf-8") as file:
            for task, scores in found:
                self.scores[task] = scores
                line = {"group": task.group, "type": task.type, "scores": scores}
                file.write(json.dumps(_checked(line)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _begin(self, lines: list[dict[str, Any]]) -> None:
        """Rewrite the complete lines, since the file may end in the middle of a line."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        if self.path.exists() and self.path.read_text(encoding="utf-8") == text:
            return
        try:
            with file_aside(self.path) as aside:
                aside.write_text(text, encoding="utf-8")
        except OSError as error:
            reason = error.strerror
            raise LadderError(
                f"{self.path}: the state cannot be written ({reason}); give another --state"
            ) from error


def _lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a state file; none if there is no file."""
    if not path.exists():
        return []
    if not path.is_file():
        raise LadderError(f"{path}: not a file; give another place for the state")
    try:
        texts = path.read_text(encoding="utf-8").split("\n")
        whole = [parse_json(text) for text in texts[:-1]]
        if whole and isinstance(whole[0], dict) and all(map(_is_line, whole[1:])):
            return whole
    except ValueError:
        pass
    raise LadderError(f"{path}: not a state file of Ladder; give another place for the state")


def _is_line(line: Any) -> bool:
    """Whether a line has scores by name. Lines of earlier versions have no check sums."""
    if not isinstance(line, dict) or set(line) not in ({*KEYS}, {*KEYS, CHECK}):
        return False
    group, type, scores = (line[key] for key in KEYS)
    named = isinstance(group, str) and isinstance(type, str) and isinstance(scores, dict)
    return named and all(map(is_number, scores.values()))


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    """A line with its check sum."""
    return {**line, CHECK: _sum(line)}


def _is_sound(line: dict[str, Any], need: bool) -> bool:
    return line[CHECK] == _sum(line) if CHECK in line else not need


def _sum(line: dict[str, Any]) -> str:
    text = json.dumps([line[key] for key in KEYS], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check(path: Path, header: Mapping[str, Any], key: Key) -> None:
    wanted = asdict(key)
    for name, what in NAMES.items():
        if header.get(name) != wanted[name]:
            detail = f"{_short(header.get(name))}, not {_short(wanted[name])}"
            raise LadderError(
                f"{path}: holds scores of {what} ({detail}); "
                "give another place for the state, or delete the file"
            )


def _short(value: object) -> str:
    return str(value)[:12]
