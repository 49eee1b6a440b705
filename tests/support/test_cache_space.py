"""What the cache removes: its own entries, by age, size or all; never what is not its own."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unprivileged import give, run_unprivileged

from ladder.errors import LadderError
from ladder.support import cache, cache_space, entries
from ladder.support.cache_space import clear, prune, size_bytes

Cli = Callable[..., Any]
DAY = 24 * 3600.0
IMPORTS = "from ladder.support import cache_space"
CLEAR = """
freed = cache_space.clear()
print(freed.freed_bytes)
freed.check()
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache_space._Growth, "added", None)
    return tmp_path / "cache"


def put(name: str, size: int, days: float = 0) -> Path:
    """An entry of ``size`` bytes and its record, last used ``days`` ago."""
    place = cache.cache_folder() / "traces" / name
    with entries.put(place, "file") as aside:
        aside.write_bytes(b"x" * size)
    used = time.time() - days * DAY
    os.utime(place, (used, used))
    return place


def kept() -> list[str]:
    return sorted(os.listdir(cache.cache_folder() / "traces"))


def test_the_marker_is_what_programs_know_of_caches(root: Path) -> None:
    put("a", 1)
    text = (root / cache.MARKER).read_text()
    assert text.startswith("Signature: 8a477f597d28d172789f06886806bc55\n") and cache.is_own()


def test_clear_empties_the_cache_and_nothing_else(root: Path) -> None:
    put("a", 1000), put("b", 10)
    (root / "thesis.txt").write_text("mine")
    before = size_bytes()
    freed = clear()
    assert freed.failed == {} and freed.freed_bytes >= 1010 and size_bytes() < before
    assert kept() == [] and (root / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "mark", [None, "", "Signature: 8a477f597d28d172789f06886806bc55\n", "\xff"]
)
def test_other_folders_are_refused(cli: Cli, root: Path, mark: str | None) -> None:
    """Also those with the marker of another program."""
    root.mkdir()
    (root / "thesis.txt").write_text("mine")
    (root / "traces").mkdir()
    (root / "traces" / "mine").write_text("mine")
    if mark is not None:
        (root / cache.MARKER).write_text(mark, encoding="latin-1")
    for words in (["clear"], ["prune", "--older", "1s"]):
        ran = cli("cache", *words)
        assert ran.code == 2 and ran.out == ""
        assert ran.err == (
            f"ladder: {root}: has no CACHEDIR.TAG of Ladder's, so nothing in it is removed; "
            "delete it by hand, or set LADDER_CACHE\n"
        )
    put("a", 1)
    assert (root / "thesis.txt").exists() and (root / "traces" / "mine").exists()
    assert not cache.is_own()


def test_the_working_folder_is_not_emptied(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    monkeypatch.setenv(cache.VARIABLE, ".")
    assert cli("cache", "clear").code == 2 and (tmp_path / "thesis.txt").exists()


def test_caches_of_earlier_versions_are_known(root: Path) -> None:
    """They have no marker, and nothing but folders of a cache."""
    (root / "artifacts" / "one").mkdir(parents=True)
    (root / "artifacts" / "one" / "file").write_text("12345")
    assert clear().freed_bytes == 5 and not (root / "artifacts" / "one").exists()


def test_links_are_removed_and_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    put("a", 1)
    (root / "traces" / "link").symlink_to(tmp_path / "mine")
    (root / "artifacts").symlink_to(tmp_path / "mine")
    clear()
    assert kept() == [] and (tmp_path / "mine" / "thesis.txt").exists()


def test_what_cannot_be_removed_is_reported(root: Path) -> None:
    """What else there is goes."""
    put("a", 10), put("b", 10)
    (root / "traces" / "b").chmod(0o500)
    give(root)
    done = run_unprivileged(IMPORTS, CLEAR)
    assert done.returncode == 1 and int(done.stdout) > 10, done
    assert re.search(r"could not remove \S+/traces/b/file \(Permission denied\)", done.stderr)
    assert kept() == ["b"]


def test_prune_by_age() -> None:
    put("old", 10, days=40), put("new", 10, days=2)
    assert prune(older=30 * DAY).freed_bytes >= 10 and kept() == ["new"]


def test_prune_by_size_takes_the_least_recently_used_first() -> None:
    for name, days in (("a", 1), ("b", 3), ("c", 2)):
        put(name, 10_000, days)
    prune(most=25_000)
    assert kept() == ["a", "c"]
    assert entries.has(cache.cache_folder() / "traces" / "c", "file")  # that is a use
    prune(most=15_000)
    assert kept() == ["c"]


def test_prune_from_the_command_line(cli: Cli) -> None:
    put("old", 10, days=40), put("new", 10)
    assert cli("cache", "prune").code == 2
    for words in (["--older", "30"], ["--older", "-1d"], ["--max-size", "5"]):
        ran = cli("cache", "prune", *words)
        assert ran.code == 2 and ran.err.count("\n") == 1
    assert cli("cache", "prune", "--older", "30d", "--max-size", "5GB").code == 0
    assert kept() == ["new"]


def test_the_cache_does_not_grow_beyond_its_bound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was not used for a day goes, the longest unused first; it is reported."""
    monkeypatch.setenv(cache_space.BOUND_VARIABLE, "25kB")
    put("a", 10_000, days=3), put("b", 10_000, days=2)
    assert capsys.readouterr().err == ""
    put("c", 10_000)
    assert kept() == ["b", "c"]
    err = capsys.readouterr().err
    assert "the cache was over 25kB (LADDER_CACHE_SIZE): entries that were not used" in err
    put("d", 10_000), put("e", 10_000)
    assert kept() == ["c", "d", "e"]  # in use: a run may still read them


def test_a_bound_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache_space.BOUND_VARIABLE, "much")
    with pytest.raises(LadderError, match="LADDER_CACHE_SIZE 'much': write a positive number"):
        put("a", 1)


def test_leftovers_of_killed_runs_are_swept(root: Path) -> None:
    put("a", 1)
    (root / "traces" / ".ladder-aside-dead").mkdir()
    (root / "traces" / ".ladder-aside-dead" / "half").write_text("half")
    prune(older=DAY)
    assert kept() == ["a"]
