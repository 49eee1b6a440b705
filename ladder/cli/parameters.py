"""Command-line parameters made from the schema of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from ladder.options.schema import OPTIONAL, Described
from ladder.options.signature import options_in

ASKED = "asked"  # the parameter through which a command gets the given options by name
PLAIN = {"int": int, "float": float, "bool": bool}
MAY_BE_MISSING = {"Path": Path | None, "int": int | None, "float": float | None}


def takes(*kinds: type, leave_out: Sequence[str] = ()) -> Callable[[Any], Any]:
    """Add the options of ``kinds`` to a command. It gets those that were given as ``asked``.

    An option at its default is not passed on, so that it can be reported as assumed.
    """
    options = options_in(kinds, leave_out)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        hints.pop("return", None)
        own = {
            name: p for name, p in inspect.signature(command).parameters.items() if name != ASKED
        }

        @wraps(command)
        def run(ctx: typer.Context, **values: Any) -> None:
            asked = {n: v for n, v in values.items() if n in options and is_given(ctx, n)}
            command(**{n: v for n, v in values.items() if n in own}, asked=asked)

        parameters = [
            inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[n])
              for n, p in own.items()),
            *(parameter(about) for about in options.values()),
        ]  # fmt: skip
        made: Any = run
        made.__signature__ = inspect.Signature(parameters)
        made.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def parameter(about: Described) -> inspect.Parameter:
    """An option as a parameter of Typer."""
    kind, default = _kind(about)
    flags = about.flags if about.kind != "bool" else about.option.flags  # else --x / --no-x
    info = typer.Option(
        *flags,
        help=about.option.help,
        metavar=about.option.metavar or None,
        show_default=about.option.by or True,
        envvar=about.option.envvar or None,
        rich_help_panel=about.option.panel,
    )
    return inspect.Parameter(
        about.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, info],
    )


def _kind(about: Described) -> tuple[Any, Any]:
    """The type that Typer parses, and the default that help shows."""
    if about.several and about.option.splits == ",":
        return str, ",".join(about.default)
    if about.several:
        return list[str] | None, None
    if about.kind.endswith(OPTIONAL) and about.kind.removesuffix(OPTIONAL) in MAY_BE_MISSING:
        return MAY_BE_MISSING[about.kind.removesuffix(OPTIONAL)], None
    return PLAIN.get(about.kind, str), about.default


def is_given(ctx: typer.Context, name: str) -> bool:
    """Whether a parameter is given on the command line, or by its environment variable."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")
