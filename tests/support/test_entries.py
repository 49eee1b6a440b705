"""Entries of the cache: what is damaged is reported and made again, whoever else is at work."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ladder.errors import LadderError
from ladder.support import cache, entries, entry_record
from ladder.support.entry_record import RECORD

GROW = """
import sys
from ladder.support import cache, entries
own, rounds = sys.argv[1], int(sys.argv[2])
place = cache.cache_folder() / "costs" / "entry"
for number in range(rounds):
    for name in ("shared", own):
        if entries.has(place, name):
            content = (place / name).read_text()
        with entries.put(place, name) as aside:
            aside.write_text(f"{own} {number}" * 200)
"""
WHOLE = """
import sys
from ladder.support import cache, entries
own, rounds = sys.argv[1], int(sys.argv[2])
place = cache.cache_folder() / "traces" / "entry"
for number in range(rounds):
    if not entries.whole(place, "last") or number % 3 == 0:
        with entries.new_entry(place) as aside:
            (aside / "first").write_text("first" * 200)
            (aside / "last").write_text("last")
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def place(root: Path) -> Path:
    """An entry with two files."""
    folder = root / "traces" / "entry"
    with entries.new_entry(folder) as aside:
        (aside / "a").write_bytes(b"first" * 100)
        (aside / "b").write_bytes(b"second")
    return folder


def flip(path: Path, at: int = 3) -> None:
    """Change one byte, as a disk does: neither size nor time say so."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_what_was_written_is_whole(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entries.whole(place, "b") and entries.has(place, "a")
    assert not entries.whole(place, "c") and not entries.has(place, "c")
    assert not entries.whole(place.with_name("other"), "b")
    assert capsys.readouterr().err == ""


def test_a_file_that_was_changed_is_reported_and_removed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entries.whole(place, "b")
    flip(place / "a")
    assert not entries.whole(place, "b")
    assert capsys.readouterr().err == (
        f"ladder: note: {place}: damaged (the hash of a is not the one that was written); "
        "it is made again\n"
    )
    assert sorted(os.listdir(place)) == [RECORD]
    assert not entries.whole(place, "b") and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"first", "a has 5 bytes, not 500"),
        (b"", "a has 0 bytes, not 500"),
        (None, r"a cannot be read \(No such file or directory\)"),
    ],
)
def test_files_that_are_cut_off_or_missing(
    place: Path, content: bytes | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "a").unlink()
    if content is not None:
        (place / "a").write_bytes(content)
    assert not entries.has(place, "a") and entries.has(place, "b")
    assert entry_reason(capsys.readouterr().err) == reason.replace("\\", "")


def entry_reason(line: str) -> str:
    return line.partition("damaged (")[2].removesuffix("); it is made again\n")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "null", "[]", '{"files": []}', '{"files": {"a": 1}}', "\udc80", "[" * 100_000),
        '{"files": {"../../a": {"size": 1, "sha256": "x"}}}',
        '{"files": {"/etc/passwd": {"size": 1, "sha256": "x"}}}',
    ],
)
def test_a_damaged_record(place: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (place / RECORD).write_bytes(text.encode(errors="surrogateescape"))
    assert not entries.whole(place, "b")
    assert entry_reason(capsys.readouterr().err) == "its entry.json cannot be read"
    with entries.put(place, "b") as aside:
        aside.write_text("anew")
    assert entries.whole(place, "b") and (place / "b").read_text() == "anew"


def test_a_planted_file_is_not_of_the_entry(place: Path, tmp_path: Path) -> None:
    (place / "c").write_text("planted")
    assert not entries.has(place, "c")
    (tmp_path / "out").mkdir()
    entries.copy(place, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "b"]


def test_copies_are_checked(place: Path, tmp_path: Path) -> None:
    """What was damaged after it was looked at."""
    assert entries.whole(place, "b")
    flip(place / "a")
    with pytest.raises(LadderError, match=r"changed while it was read \(the hash of a is not"):
        entries.copy(place, tmp_path)


def test_a_hash_is_read_once_a_process(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    hash = entry_record._sha256

    def hashed(path: Path) -> str:
        read.append(path.name)
        return hash(path)

    monkeypatch.setattr(entry_record, "_sha256", hashed)
    for _ in range(3):
        assert entries.whole(place, "b")
    assert sorted(read) == ["a", "b"]


def test_nobody_else_may_look_into_it(place: Path, root: Path) -> None:
    for folder in (root, root / "traces", place):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_use_is_remembered(place: Path) -> None:
    os.utime(place, (1, 1))
    assert entries.has(place, "a") and time.time() - place.stat().st_mtime < 60


def test_a_failed_entry_is_none(root: Path) -> None:
    place = root / "traces" / "entry"
    with pytest.raises(ZeroDivisionError), entries.new_entry(place) as aside:
        (aside / "a").write_text("text")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), entries.put(place, "a") as aside:
        aside.write_text("text")
        raise ZeroDivisionError
    assert not entries.has(place, "a") and os.listdir(root / "traces") == []


def test_folders_of_earlier_versions_get_a_record(root: Path) -> None:
    place = root / "packages" / "one-1.0"
    (place / "in").mkdir(parents=True)
    (place / "in" / "file").write_text("text")
    assert entries.whole_folder(place) and entries.whole_folder(place)
    assert list(json.loads((place / RECORD).read_text())["files"]) == ["in/file"]
    flip(place / "in" / "file")
    assert not entries.whole_folder(place) and not place.exists()


@pytest.mark.parametrize("code", [GROW, WHOLE], ids=["grow", "whole"])
def test_four_processes_on_one_cache(code: str, root: Path) -> None:
    """One entry, read and written by all: no file is ever found damaged."""
    command = [sys.executable, "-c", code]
    running = [
        subprocess.Popen([*command, f"own{i}", "60"], stderr=subprocess.PIPE, text=True)
        for i in range(4)
    ]
    errors = [process.communicate()[1] for process in running]
    assert errors == [""] * 4 and [process.returncode for process in running] == [0] * 4
    (place,) = root.glob("*/entry")
    assert all(entries.has(place, name) for name in os.listdir(place) if name != RECORD)
    assert os.listdir(place.parent) == ["entry"] and cache.is_own()


def test_killed_while_adding(root: Path) -> None:
    """What a killed run was writing is not there, or as it was written; nothing is damaged."""
    for number in range(8):
        process = subprocess.Popen([sys.executable, "-c", GROW, "own", "100000"])
        time.sleep(0.25 + 0.013 * number)
        process.kill()
        process.wait()
    done = subprocess.run(
        [sys.executable, "-c", GROW, "own", "1"], stderr=subprocess.PIPE, text=True, check=True
    )
    assert done.stderr == ""
    place = root / "costs" / "entry"
    assert entries.has(place, "shared") and entries.has(place, "own")
    assert os.listdir(place.parent) == ["entry"]
    assert sorted(os.listdir(place)) == [RECORD, "own", "shared"]
