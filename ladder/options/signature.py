"""Signatures and docstrings of functions that take options by name, made from the schema."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

from ladder.options.schema import OPTIONAL, Described, described

F = TypeVar("F", bound=Callable[..., Any])
WIDTH = 96
BY_TEXT = {kind: f"{kind} | str" for kind in ("DType", "Path", "Rule")}  # read from a text, too


def options_in(kinds: Sequence[type], leave_out: Sequence[str] = ()) -> dict[str, Described]:
    """The options of several dataclasses by name; the first class that has a name wins."""
    found: dict[str, Described] = {}
    for kind in kinds:
        for name, about in described(kind).items():
            if name not in leave_out:
                found.setdefault(name, about)
    return found


def accepted(about: Described) -> str:
    """The type of the values that an option takes in Python, as the text of an annotation."""
    kind = about.kind.removesuffix(OPTIONAL)
    if about.several:
        item = kind.removeprefix("tuple[").removesuffix(", ...]")
        kind = f"Iterable[{BY_TEXT.get(item, item)}] | str"
    types = [about.option.accepts, BY_TEXT.get(kind, kind)]
    optional = OPTIONAL if about.kind.endswith(OPTIONAL) else ""
    return " | ".join(filter(None, types)) + optional


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
        signature = inspect.signature(function).replace(
            parameters=[*own, *(k for k in keywords if k.name not in names)]
        )
        made.__signature__ = signature
        made.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        made.__annotations__["return"] = signature.return_annotation
        made.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{_listed(options)}"
        return made  # type: ignore[no-any-return]

    return decorate


def _keyword(about: Described) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(about.name, kind, default=about.default, annotation=accepted(about))


def _listed(options: dict[str, Described]) -> str:
    lines = ["Options:"]
    for about in options.values():
        default = about.option.by or repr(about.default)
        text = f"{about.name} ({accepted(about)}, default {default}): {about.option.help}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent=" " * 8)
    return "\n".join(lines)
