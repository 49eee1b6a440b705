"""How the command line names values in help: FILE, TEXT, N instead of Python's types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from ladder.cli.examples import examples_of

HELP = {"help_option_names": ["-h", "--help"]}
VALUES = {"int": "N", "float": "X", "path": "PATH", "bool": ""}  # others are TEXT
MANY = "list["


class App(typer.Typer):
    """A group of commands. Help is shown by -h as well, and where a command is missing."""

    def __init__(
        self, help: str, add_completion: bool = False, group: type[TyperGroup] | None = None
    ) -> None:
        super().__init__(
            cls=group or Group,
            no_args_is_help=True,
            add_completion=add_completion,
            pretty_exceptions_enable=False,
            context_settings=HELP,
            help=help,
        )

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=Command, **options)


class Command(TyperCommand):
    """A command whose help names values in words, and ends with examples."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        examples = examples_of(ctx.command_path.partition(" ")[2])
        if examples:
            self.epilog = "\n\n".join(("Examples:", *examples))
        super().format_help(ctx, formatter)

    def get_params(self, ctx: Any) -> list[Any]:
        return _in_words(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands whose help names values in words."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _in_words(super().get_params(ctx))


def _in_words(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if parameter.metavar is None:
            parameter.metavar = _word(parameter)
        if isinstance(parameter, TyperArgument):
            argument: Any = parameter
            argument.display_type_rich = _nothing  # its name says it
    return parameters


def _nothing(ctx: Any) -> None:
    """The type of an argument in help."""


def _word(parameter: Any) -> str:
    """An argument by its own name, the value of an option by its kind."""
    if isinstance(parameter, TyperArgument):
        return str(parameter.name).upper()
    kind = parameter.bare_type().removeprefix(MANY).removesuffix("]")
    return VALUES.get("path" if parameter.type_descriptor.is_path else kind, "TEXT")
