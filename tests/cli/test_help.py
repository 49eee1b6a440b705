"""``--help`` of every command, as golden texts: a change of the command line is seen in review."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import Any

import command_line
import pytest
import typer.main
from conftest import GOLDEN
from typer import rich_utils

from ladder.cli.app import app
from ladder.cli.examples import EXAMPLES

WIDTH = 160  # no default is cut short
FOLDER = "help"


def contexts(command: Any, name: str, parent: Any = None) -> Iterator[Any]:
    """The context of a command and of everything under it: nothing is parsed or run."""
    context = command.context_class(
        command, info_name=name, parent=parent, **command.context_settings
    )
    yield context
    for child_name, child in getattr(command, "commands", {}).items():
        yield from contexts(child, child_name, context)


COMMANDS = {
    context.command_path.replace(" ", "-"): context
    for context in contexts(typer.main.get_command(app), "ladder")
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help(
    name: str,
    golden: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", WIDTH)
    monkeypatch.setattr(rich_utils, "FORCE_TERMINAL", False)
    context = COMMANDS[name]
    context.command.get_help(context)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    golden("\n".join(lines).strip() + "\n", f"{FOLDER}/{name}")


def test_every_golden_help_has_a_command() -> None:
    assert sorted(path.stem for path in (GOLDEN / FOLDER).iterdir()) == sorted(COMMANDS)


def leaves() -> list[str]:
    return [name for name, context in COMMANDS.items() if not hasattr(context.command, "commands")]


def test_every_command_has_examples() -> None:
    assert {f"ladder {name}".replace(" ", "-") for name in EXAMPLES} == set(leaves())


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_an_example_is_a_command(line: str) -> None:
    command_line.check(shlex.split(line)[1:])
