"""Parses commands without running them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer.main

from ladder.cli.app import app


def check(words: Sequence[str]) -> None:
    """Raise Typer's error if the command line does not take ``words``."""
    _check(typer.main.get_command(app), words, None)


def _check(command: Any, words: Sequence[str], parent: Any) -> None:
    context = command.make_context("ladder", [*words], parent=parent)
    if hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        _, child, rest = command.resolve_command(context, rest)
        _check(child, rest, context)
