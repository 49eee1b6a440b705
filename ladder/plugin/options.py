"""What is asked of a Relax module: arguments of a pass, else the module's attributes, else Wish.

mod = mod.with_attr("ladder.type", "int3:g64").with_attr("ladder.keep", "lm_head|*.v_proj")
"""

from __future__ import annotations

from typing import Any

from ladder.errors import LadderError
from ladder.options.requests import Wish
from ladder.options.schema import options_of

ATTRIBUTE = "ladder."
SEVERAL = ("keep", "rules")  # texts joined by |
NAMES = ("type", "rounding", *SEVERAL, "plan", "activation", "scheme")


def read(mod: Any, given: dict[str, str]) -> Wish:
    """The checked wish for ``mod``; ``given`` goes before its attributes."""
    check_names(given)
    held = dict(mod.attrs) if mod.attrs else {}
    asked = {n: str(held[ATTRIBUTE + n]) for n in NAMES if ATTRIBUTE + n in held}
    asked.update(given)
    options = {n: t.split("|") if n in SEVERAL else t for n, t in asked.items() if t}
    wish = options_of(Wish, options)
    wish.check()
    return wish


def check_names(given: dict[str, str]) -> None:
    """Refuse what is no option."""
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        raise LadderError(f"no option '{unknown[0]}'; the options are: {', '.join(NAMES)}")
