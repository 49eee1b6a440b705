"""Errors are one line; ``--debug`` shows their traceback as well."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from conftest import Ran

from ladder.errors import LadderError, NothingToQuantize
from ladder.support import cache

Cli = Callable[..., Ran]
TRACEBACK = "Traceback (most recent call last):"
SHOW = ("cache", "show")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Make ``ladder cache show`` raise an error that another error caused."""

    def fail(error: Exception) -> None:
        def raising() -> None:
            try:
                raise OSError("the cause")
            except OSError as cause:
                raise error from cause

        monkeypatch.setattr(cache, "cache_folder", raising)

    return fail


@pytest.mark.parametrize(
    ("error", "code"), [(LadderError("bad\n  input"), 2), (NothingToQuantize("bad input"), 3)]
)
def test_bad_input(cli: Cli, failing: Callable[..., None], error: Exception, code: int) -> None:
    failing(error)
    ran = cli(*SHOW)
    assert (ran.code, ran.err) == (code, "ladder: bad input\n")
    ran = cli("--debug", *SHOW)
    assert ran.code == code and ran.err.splitlines()[-1] == "ladder: bad input"
    assert ran.err.count(TRACEBACK) == 2 and "OSError: the cause" in ran.err
    assert cli(*SHOW).err == "ladder: bad input\n", "--debug holds for one command"


def test_an_error_in_ladder(cli: Cli, failing: Callable[..., None]) -> None:
    failing(KeyError("of\nours"))
    ran = cli(*SHOW)
    line = r"ladder: internal error: KeyError: 'of\nours'"
    assert (ran.code, ran.err) == (1, f"{line}; run again with --debug for the traceback\n")
    ran = cli("--debug", *SHOW)
    assert ran.code == 1 and ran.err.splitlines()[-1] == line
    assert ran.err.count(TRACEBACK) == 2 and "OSError: the cause" in ran.err


def test_the_environment_asks_for_it(
    cli: Cli, failing: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(LadderError("bad input"))
    monkeypatch.setenv("LADDER_DEBUG", "1")
    assert TRACEBACK in cli(*SHOW).err
    monkeypatch.setenv("LADDER_DEBUG", "0")
    assert cli(*SHOW).err == "ladder: bad input\n"


@pytest.mark.parametrize(
    "before", [("--debug", "--config", "no.toml"), ("--config", "no.toml", "--debug")]
)
def test_anywhere_before_the_command(cli: Cli, before: tuple[str, ...]) -> None:
    ran = cli(*before, *SHOW)
    assert ran.code == 2 and TRACEBACK in ran.err and "FileNotFoundError" in ran.err
    assert ran.err.splitlines()[-1].startswith("ladder: cannot read no.toml")


def test_usage_errors_stay_as_they_are(cli: Cli) -> None:
    ran = cli("--debug", "cache", "shw")
    assert ran.code == 2 and TRACEBACK not in ran.err and "No such command 'shw'" in ran.err


def test_a_process_of_its_own() -> None:
    """The installed entry point uses the same function."""
    words = [sys.executable, "-m", "ladder", "--debug", "run", "nowhere", "--prompt", "a"]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and not ran.stdout and TRACEBACK in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("ladder: nowhere: no such artifact folder")
