"""The options for a Relax module: from a pass's arguments, else from the module's attributes.

mod = mod.with_attr("ladder.type", "int3:g64").with_attr("ladder.keep", "lm_head|*.v_proj")
"""

from __future__ import annotations

from typing import Any

from ladder.options.requests import CompileOptions
from ladder.options.schema import described, options_of, refuse_unknown
from ladder.options.sites import AUTO
from ladder.passes.rounding.methods import UNCALIBRATED

ATTRIBUTE = "ladder."
SEPARATOR = "|"  # of several values in one text
OPTIONS = {name: about for name, about in described(CompileOptions).items() if about.option.plugin}


def read(mod: Any, given: dict[str, str]) -> CompileOptions:
    """The checked options for ``mod``; ``given`` overrides its attributes."""
    check_names(given)
    held = dict(mod.attrs) if mod.attrs else {}
    asked = {n: str(held[ATTRIBUTE + n]) for n in OPTIONS if ATTRIBUTE + n in held}
    asked.update(given)
    values = {n: t.split(SEPARATOR) if OPTIONS[n].several else t for n, t in asked.items() if t}
    if values.get("rounding", AUTO) == AUTO:  # a module holds no text to calibrate on
        values["rounding"] = UNCALIBRATED
    options = options_of(CompileOptions, values)
    options.check()
    return options


def check_names(given: dict[str, str]) -> None:
    """Refuse unknown options."""
    refuse_unknown(given, OPTIONS)
