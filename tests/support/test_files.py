"""Writing: only what is Ladder's is replaced, in one step; links, devices and pipes stay."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

import pytest
from unprivileged import give, run_unprivileged

from ladder.errors import LadderError
from ladder.support import exchange, files, workplace
from ladder.support.files import file_aside, folder_aside

MARKER = "ours.txt"
WRITERS, ROUNDS = 4, 300
WRITE = """
import sys
from pathlib import Path
from ladder.support import files
target, own, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
{before}
for number in range(rounds):
    with files.folder_aside(target, lambda path: ("ours.txt", "a", "b")) as aside:
        for name in ("ours.txt", "a", "b"):
            (aside / name).write_text(f"{{own}} {{number}}")
{after}
"""
STOP_BETWEEN = """
import os, signal
put = files.os.rename
def stopped(one, other):
    put(one, other)
    if Path(other).parent.name.startswith("old-"):
        os.kill(os.getpid(), signal.SIGKILL)
files.exchange = lambda one, other: False
files.os.rename = stopped
"""
IMPORTS = """
import sys
from pathlib import Path
from ladder.support.files import file_aside
"""
WRITE_FILE = """
with file_aside(Path(sys.argv[1])) as aside:
    aside.write_text("text")
"""
WITHOUT = "files.exchange = lambda one, other: False"


def ours(folder: Path) -> Collection[str] | None:
    return (MARKER, "a") if (folder / MARKER).is_file() else None


def write(target: Path, text: str = "new") -> None:
    with folder_aside(target, ours) as aside:
        (aside / MARKER).write_text(text)


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture(params=["exchange", "renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By the system's exchange, and as on a file system that has none."""
    if request.param == "renames":
        monkeypatch.setattr(files, "exchange", lambda one, other: False)
    return str(request.param)


def run(target: Path, own: str, rounds: int, before: str = "", after: str = "") -> list[str]:
    code = WRITE.format(before=before, after=after)
    return [sys.executable, "-c", code, str(target), own, str(rounds)]


def test_the_exchange_is_one_step(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "other").mkdir()
    assert exchange.exchange(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "other").read_text() == "1" and (tmp_path / "one").is_dir()
    with pytest.raises(FileNotFoundError):
        exchange.exchange(tmp_path / "one", tmp_path / "none")


def test_own_folders_are_replaced(tmp_path: Path, way: str) -> None:
    for text in ("first", "second", "third"):
        write(tmp_path / "out", text)
        assert held(tmp_path / "out") == {MARKER: text}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path: Path, way: str) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert held(tmp_path / "out") == {MARKER: "new"}


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("mine")
    with pytest.raises(LadderError, match=r"out: exists and is not a Ladder artifact; give"):
        write(tmp_path / "out")
    assert held(tmp_path / "out") == {"a": "mine"}


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_file_of_the_user_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    """Also one that comes while the new folder is made, and what only has the name of ours."""
    target = tmp_path / "out"

    def add() -> None:
        if kind == "file":
            (target / "thesis.txt").write_text("mine")
        elif kind == "folder":
            (target / "a").mkdir()
        else:
            (target / "a").symlink_to(tmp_path)

    name = "thesis.txt" if kind == "file" else "a"
    write(target, "old")
    with pytest.raises(LadderError, match=rf"out: holds '{name}', which Ladder did not write; "):
        with folder_aside(target, ours) as aside:
            (aside / MARKER).write_text("new")
            add()
    with pytest.raises(LadderError, match=rf"out: holds '{name}', which Ladder did not write; "):
        write(target)
    assert sorted(os.listdir(target)) == sorted([MARKER, name]) and not left(tmp_path)
    assert (target / MARKER).read_text() == "old"


def test_a_link_stays_a_link(tmp_path: Path, way: str) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "artifact")
    (tmp_path / "page").symlink_to("disk/page.html")
    for text in ("first", "second"):
        write(tmp_path / "out", text)
        with file_aside(tmp_path / "page") as aside:
            aside.write_text(text)
        assert held(tmp_path / "disk" / "artifact") == {MARKER: text}
        assert (tmp_path / "disk" / "page.html").read_text() == text
    assert (tmp_path / "out").is_symlink() and (tmp_path / "page").is_symlink()


def test_devices_are_written_to() -> None:
    for name in ("null", "full"):
        before = os.stat(f"/dev/{name}")
        assert stat.S_ISCHR(before.st_mode)
    with file_aside(Path("/dev/null")) as aside:
        aside.write_text("text")
    with pytest.raises(LadderError, match="/dev/full: the disk is full"):
        with file_aside(Path("/dev/full")) as aside:
            aside.write_text("text")
    with pytest.raises(LadderError, match="/dev/null: exists and is a file; give a folder"):
        write(Path("/dev/null"))
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode) and stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    with file_aside(tmp_path / "pipe") as aside:
        aside.write_text("through it")
    reader.join()
    assert read == ["through it"] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_is_respected(tmp_path: Path, mask: int) -> None:
    """New files have the permissions that the user's mask gives, replaced ones keep theirs."""
    before = os.umask(mask)
    try:
        write(tmp_path / "out")
        with file_aside(tmp_path / "page") as aside:
            aside.write_text("text")
    finally:
        os.umask(before)
    mode = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert mode == {"out": 0o777 & ~mask, "page": 0o666 & ~mask}
    (tmp_path / "page").chmod(0o640)
    (tmp_path / "out").chmod(0o750)
    write(tmp_path / "out")
    with file_aside(tmp_path / "page") as aside:
        aside.write_text("text")
    mode = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert mode == {"out": 0o750, "page": 0o640}


def test_what_is_aside_is_private_and_cannot_be_foreseen(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        with file_aside(tmp_path / "page") as aside:
            aside.write_text("text")
            names.append(aside.parent.name)
            assert stat.S_IMODE(aside.parent.stat().st_mode) == 0o700
    assert names[0] != names[1] and not left(tmp_path)


@pytest.mark.parametrize("name", ["a" * 256, "é" * 128])
def test_names_that_are_too_long(tmp_path: Path, name: str) -> None:
    with pytest.raises(LadderError, match=r"cannot be written \(File name too long\); give"):
        write(tmp_path / name)
    with pytest.raises(LadderError, match=r"cannot be written \(File name too long\); give"):
        with file_aside(tmp_path / name) as aside:
            aside.write_text("text")
    write(tmp_path / name[:120])
    assert not left(tmp_path)


def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    with pytest.raises(LadderError, match="page: is a folder; give a file"):
        with file_aside(tmp_path / "page") as aside:
            aside.write_text("text")


def test_a_folder_without_rights(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    give(folder)
    done = run_unprivileged(IMPORTS, WRITE_FILE, folder / "page")
    assert "page: cannot be written (Permission denied); give another -o" in done.stderr, done


@pytest.mark.parametrize("before", ["", WITHOUT], ids=["exchange", "renames"])
def test_many_writers_of_one_target(tmp_path: Path, before: str) -> None:
    """Every write succeeds, a reader never sees half of one, and nothing is left over."""
    target = tmp_path / "out"
    commands = [run(target, f"writer{i}", ROUNDS, before) for i in range(WRITERS)]
    running = [subprocess.Popen(command) for command in commands]
    gone = 0
    while any(process.poll() is None for process in running):
        try:
            folder = os.open(target, os.O_RDONLY)
        except FileNotFoundError:
            gone += 1
            continue
        found = os.listdir(folder)
        os.close(folder)
        assert set(found) <= {MARKER, "a", "b"}
        time.sleep(0.001)
    assert [process.wait() for process in running] == [0] * WRITERS
    assert len(set(held(target).values())) == 1 and set(held(target)) == {MARKER, "a", "b"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """The target is whole after each kill, and the next run sweeps what was left."""
    target = tmp_path / "out"
    subprocess.run(run(target, "first", 1), check=True)
    for number in range(12):
        process = subprocess.Popen(run(target, f"run{number}", 1 << 30))
        time.sleep(0.15 + 0.017 * number)
        process.kill()
        process.wait()
        assert len(set(held(target).values())) == 1 and set(held(target)) == {MARKER, "a", "b"}
    subprocess.run(run(target, "last", 1), check=True)
    assert set(held(target).values()) == {"last 0"} and not left(tmp_path)


def test_killed_between_two_renames(tmp_path: Path) -> None:
    """Where the system cannot exchange: the old target comes back with the next run."""
    target = tmp_path / "out"
    subprocess.run(run(target, "first", 1), check=True)
    killed = subprocess.run(run(target, "second", 1, STOP_BETWEEN), check=False)
    assert killed.returncode == -signal.SIGKILL and not target.exists() and left(tmp_path)
    workplace.sweep(tmp_path)
    assert set(held(target).values()) == {"first 0"} and not left(tmp_path)


def test_who_is_working_is_not_swept(tmp_path: Path) -> None:
    with file_aside(tmp_path / "page") as aside:
        aside.write_text("text")
        workplace.sweep(tmp_path)
    assert (tmp_path / "page").read_text() == "text"


def test_a_failed_block_leaves_what_was(tmp_path: Path, way: str) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(ZeroDivisionError), folder_aside(tmp_path / "out", ours) as aside:
        (aside / MARKER).write_text("new")
        raise ZeroDivisionError
    assert held(tmp_path / "out") == {MARKER: "old"} and not left(tmp_path)
