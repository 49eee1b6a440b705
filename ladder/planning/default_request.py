"""What ``ladder compile`` makes where nobody says what is wanted: a model that works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ladder.frontend.types import Source
from ladder.options.split import SOURCE
from ladder.passes.allocation.budget import BUDGET
from ladder.pipeline.source_plan import has_codes

DEFAULT_BPW = "4.25"  # of a language model in floats: close to it, and a quarter of float16's size
DEFAULT_TYPE = "int8:row"  # of other models
REQUESTS = ("type", "plan", "rules", *BUDGET)  # options that say what is wanted


@dataclass(frozen=True)
class Request:
    """The options by name, and a sentence about those that were chosen for the user."""

    given: Mapping[str, Any]
    said: str = ""


def says_what(given: Mapping[str, Any]) -> bool:
    """Whether the options, by name, say what is wanted."""
    return any(given.get(name) not in ("", (), [], {}, None) for name in REQUESTS)


def with_default(source: Source, given: Mapping[str, Any]) -> Request:
    """The options, with a type or a budget where they name none."""
    if says_what(given):
        return Request(given)
    if has_codes(source):
        return Request(
            {**given, "type": SOURCE},
            "no type or budget was given, so the codes of the checkpoint are kept (--type source); "
            "for another size give one, such as --size 60MB",
        )
    if source.is_language_model:
        return Request(
            {**given, "bpw": DEFAULT_BPW},
            f"no type or budget was given, so a plan of {DEFAULT_BPW} bits per weight was made "
            f"(--bpw {DEFAULT_BPW}); for another size give one, such as --size 60MB",
        )
    return Request(
        {**given, "type": DEFAULT_TYPE},
        f"no type or budget was given, so every weight has the type {DEFAULT_TYPE}; for a smaller "
        "model give another, such as --type int4:g64",
    )
