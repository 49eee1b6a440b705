"""Errors are one line; ``--debug`` shows their traceback as well."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from conftest import Ran

from ladder.errors import LadderError, NothingToQuantize, refusals
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cache", "shw"), "No such command 'shw'"),
        (("compile", "a", "--foo"), "No such option: --foo"),
        (("compile",), "Missing argument 'model'"),
        (("compile", "a", "-o"), "Option '-o' requires an argument"),
        (("run", "a", "--tokens", "many"), "Invalid value for '--tokens': "),
    ],
)
def test_usage_errors_are_one_line_too(cli: Cli, words: tuple[str, ...], message: str) -> None:
    for before in ((), ("--debug",)):
        ran = cli(*before, *words)
        assert ran.code == 2 and ran.out == ""
        (line,) = ran.err.splitlines()
        assert line.startswith(f"ladder: {message}") and line.endswith(" --help'")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: json.loads("{"), "json cannot take this input: JSONDecodeError: Expecting"),
        (lambda: np.load(__file__), "numpy cannot take this input: "),
        (lambda: zipfile.ZipFile(__file__), "zipfile cannot take this input: BadZipFile: File is"),
        (lambda: onnx.load(__file__), "onnx cannot take this input: "),
        (lambda: bytes(1 << 60), "Python cannot take this input: there is not enough memory"),
    ],
)
def test_what_other_packages_raise_is_about_the_input(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, call: Callable[[], object], message: str
) -> None:
    monkeypatch.setattr(cache, "cache_folder", call)
    ran = cli(*SHOW)
    assert ran.code == 2 and ran.err.startswith(f"ladder: {message}") and ran.err.count("\n") == 1
    assert TRACEBACK in cli("--debug", *SHOW).err
    with pytest.raises(LadderError, match=message) as refused, refusals():
        call()
    assert refused.value.__cause__ is not None


def test_errors_of_ladder_stay_what_they_are() -> None:
    with pytest.raises(KeyError), refusals():
        raise KeyError("ours")
    with pytest.raises(NothingToQuantize), refusals():
        raise NothingToQuantize("nothing")
