"""Options of a compilation in one step: what is the plan's, and what is the compilation's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ladder.errors import LadderError
from ladder.options.requests import FileWish, PlanWish, Wish
from ladder.options.schema import described, options_of, refuse_unknown
from ladder.passes.allocation.budget import BUDGET, HINT

W = TypeVar("W", Wish, FileWish)


def split(options: Mapping[str, Any], kind: type[W]) -> tuple[W, PlanWish | None]:
    """Options of a compilation in one step: its own, and those of the plan that a budget asks for.

    Empty options ask for nothing. Refuses those of a plan without a budget, and a budget where the
    types are given already.
    """
    asked = {name: value for name, value in options.items() if value not in ("", (), [], {}, None)}
    own, plan = described(kind), described(PlanWish)
    refuse_unknown(asked, {**own, **plan})
    mine = {k: v for k, v in asked.items() if k in own}
    planning = [name for name in asked if name in plan and name not in own]
    budget = [name for name in planning if name in BUDGET]
    if not planning:
        return options_of(kind, mine), None
    first = plan[(budget or planning)[0]].flags[0]
    if not budget:
        raise LadderError(f"{first} is an option of a plan: ask for one with {HINT}")
    for name in ("type", "plan"):
        if name in asked:
            hint = "restrict its choice with --types" if name == "type" else "it was made for one"
            raise LadderError(
                f"{first} and {own[name].flags[0]} both say the sites' types: "
                f"leave out one ({hint})"
            )
    wish = options_of(kind, mine)
    if not wish.calibrated:  # the text is the plan's alone
        wish = replace(wish, calib=None)
    return wish, options_of(PlanWish, {k: v for k, v in asked.items() if k in plan})
