"""Signatures and docstrings of functions that take options by name, made from the schema."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

from ladder.options.schema import Described, described

F = TypeVar("F", bound=Callable[..., Any])
WIDTH = 96


def options_in(kinds: Sequence[type], leave_out: Sequence[str] = ()) -> dict[str, Described]:
    """The options of several dataclasses by name; the first class that has a name wins."""
    found: dict[str, Described] = {}
    for kind in kinds:
        for name, about in described(kind).items():
            if name not in leave_out:
                found.setdefault(name, about)
    return found


def takes_options(*kinds: type, leave_out: Sequence[str] = ()) -> Callable[[F], F]:
    """Give a function of ``**options`` explicit keywords, and list them in its docstring."""

    def decorate(function: F) -> F:
        options = options_in(kinds, leave_out)
        own = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        keywords = [_keyword(about) for name, about in options.items()]
        names = {p.name for p in own}

        @wraps(function)
        def call(*arguments: Any, **values: Any) -> Any:
            return function(*arguments, **values)

        made: Any = call
        made.__signature__ = inspect.signature(function).replace(
            parameters=[*own, *(k for k in keywords if k.name not in names)]
        )
        made.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{_listed(options)}"
        return made  # type: ignore[no-any-return]

    return decorate


def _keyword(about: Described) -> inspect.Parameter:
    return inspect.Parameter(
        about.name, inspect.Parameter.KEYWORD_ONLY, default=about.default, annotation=about.kind
    )


def _listed(options: dict[str, Described]) -> str:
    lines = ["Options:"]
    for about in options.values():
        text = f"{about.name} ({about.kind}, default {about.default!r}): {about.option.help}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent=" " * 8)
    return "\n".join(lines)
