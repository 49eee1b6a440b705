"""Errors of ``plan`` and of ``compile`` with a budget: one line each, and no file is lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("planning")]

Cli = Callable[..., Any]
TYPES = "int2:g32,int3:g32,int4:g32,int8:row"
TEXT = "the quick brown fox jumps over the lazy dog. " * 20
SMALL = ["--types", TYPES, "--windows", "2", "--tokens", "24"]

BAD: dict[str, tuple[bytes, list[str], str]] = {
    "empty text": (b"", ["--bpw", "4"], r"text\.txt: empty; give some text"),
    "binary text": (b"abc\0def" * 50, ["--bpw", "4"], r"text\.txt: a binary file .*; give a text"),
    "not UTF-8": (b"\xff\xfe" * 50, ["--bpw", "4"], r"text\.txt: not UTF-8 text .byte 0.; convert"),
    "short text": (b"too short", ["--bpw", "4"], "9 tokens are less than one window of 24; give m"),
    "one candidate": (
        TEXT.encode(),
        ["--bpw", "4", "--types", "int4:g32"],
        "--types: int4:g32 leaves nothing to choose; give two or more",
    ),
    "rules that contradict": (
        TEXT.encode(),
        ["--bpw", "4", "--rule", "lm_head=int8:row", "--rule", "lm_head=int4:g32"],
        r"rules contradict: --rule 'lm_head=int8:row' has no effect, .* rule lm_head=int4:g32",
    ),
    "a rule that keep overrules": (
        TEXT.encode(),
        ["--bpw", "4", "--rule", "mlp.down=int8:row", "--keep", "*down_proj"],
        "rules contradict: --rule 'mlp.down=int8:row' has no effect, .* kept by --keep",
    ),
    "bits below the least": (
        TEXT.encode(),
        ["--bpw", "1"],
        r"--bpw 1 cannot be met: the least reachable is 3\.?\d* bits per weight with int2:g32",
    ),
    "bytes below the least": (
        TEXT.encode(),
        ["--size", "1kB"],
        r"--size 1kB cannot be met: the least reachable is \d[\d.]*kB with int2:g32",
    ),
    "budgets that conflict": (
        TEXT.encode(),
        ["--bpw", "3.2", "--max-kl", "1e-9"],
        r"--max-kl 1e-09 cannot be met: the least reachable is [\d.e-]+ nats per token",
    ),
}


@pytest.fixture
def refuses(cli: Cli, tiny_chat_folder: Path, tmp_path: Path) -> Callable[..., None]:
    """Both ways to ask for a plan fail with the same line, and leave no file."""

    def check(message: str, *words: object) -> None:
        before = sorted(tmp_path.iterdir())
        for command in ("plan", "compile"):
            ran = cli(command, tiny_chat_folder, "-o", tmp_path / "out", *SMALL, *words)
            assert (ran.code, ran.out) == (2, ""), ran
            assert re.fullmatch(r"ladder: [^\n]+\n", ran.err), ran.err
            assert re.search(message, ran.err), ran.err
            assert sorted(tmp_path.iterdir()) == before

    return check


@pytest.mark.parametrize("name", BAD)
def test_bad_input(refuses: Cli, tmp_path: Path, name: str) -> None:
    content, words, message = BAD[name]
    (tmp_path / "text.txt").write_bytes(content)
    refuses(message, *words, "--calib", tmp_path / "text.txt")


def test_a_state_of_another_model(refuses: Cli, tmp_path: Path) -> None:
    """Its scores are still there afterwards."""
    text, state = tmp_path / "text.txt", tmp_path / "state.jsonl"
    text.write_text(TEXT)
    header = '{"model": "another", "text": "t", "windows": 2, "tokens": 24, "method": "mse"}\n'
    state.write_text(header)
    words = ["--bpw", "4", "--calib", text, "--state", state]
    refuses(r"state\.jsonl: holds scores of another model .another, not .*give another", *words)
    assert state.read_text() == header
    state.write_text("dear diary")
    refuses(r"state\.jsonl: not a state file of Ladder; give another place", *words)
    assert state.read_text() == "dear diary"


def test_types_that_are_given_twice(cli: Cli, tiny_chat_folder: Path, tmp_path: Path) -> None:
    words = ["compile", tiny_chat_folder, "-o", tmp_path / "out", "--bpw", "4"]
    for option, value in (("--type", "int4:g128"), ("--plan", tmp_path / "plan.toml")):
        ran = cli(*words, option, value)
        assert ran.code == 2 and re.fullmatch(r"ladder: [^\n]+\n", ran.err)
        assert f"--bpw and {option} both say the sites' types: leave out one" in ran.err
