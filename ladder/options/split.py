"""Split the options of a compilation with a budget into those of the plan and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ladder.errors import LadderError
from ladder.options.effort import with_effort
from ladder.options.requests import CompileOptions, PlanOptions, QuantizeOptions
from ladder.options.schema import described, options_of, refuse_unknown, with_new_names
from ladder.passes.allocation.budget import BUDGET, HINT

SOURCE = "source"  # as a type of a compilation: the one that the checkpoint stores
W = TypeVar("W", CompileOptions, QuantizeOptions)
NOT_WITH_A_BUDGET = {
    "type": "restrict its choice with --types",
    "plan": "it was made for one",
    "only": "name the other sites with --keep",
    "least_weights": "name the small sites with --keep",
}


def split(given: Mapping[str, Any], kind: type[W]) -> tuple[W, PlanOptions | None]:
    """The options of the compilation, and those of the plan that a budget asks for.

    Empty options count as not given. Options of a plan without a budget are refused, and so is a
    budget where the types are given already.
    """
    own, plan = described(kind), described(PlanOptions)
    named = with_new_names(given, {**own, **plan})
    asked = {name: value for name, value in named.items() if value not in ("", (), [], {}, None)}
    refuse_unknown(asked, {**own, **plan})
    if asked.get("type") == SOURCE:
        _check_source(asked, kind)
    mine = {k: v for k, v in asked.items() if k in own and (k, v) != ("type", SOURCE)}
    mine = with_effort(mine, own)
    planning = [name for name in asked if name in plan and name not in own]
    budget = [name for name in planning if name in BUDGET]
    if not planning:
        return options_of(kind, mine), None
    first = plan[(budget or planning)[0]].flags[0]
    if not budget:
        raise LadderError(f"{first} is an option of a plan: ask for one with {HINT}")
    for name, hint in NOT_WITH_A_BUDGET.items():
        if name in asked:
            raise LadderError(
                f"{first} and {own[name].flags[0]} both say the sites' types: "
                f"leave out one ({hint})"
            )
    options = options_of(kind, mine)
    if not options.calibrated:  # only the plan uses the text
        options = replace(options, calib=None)
    return options, plan_options({k: v for k, v in asked.items() if k in plan})


def plan_options(given: Mapping[str, Any]) -> PlanOptions:
    """The options of a plan, with those that the effort stands for where they are not given."""
    known = described(PlanOptions)
    return options_of(PlanOptions, with_effort(with_new_names(given, known), known))


def _check_source(asked: Mapping[str, Any], kind: type[W]) -> None:
    if kind is not CompileOptions:
        raise LadderError(
            "--type source keeps the codes of a GGUF file or a packed checkpoint when it is "
            "compiled; an ONNX file has none: give a type, for example int4:g32"
        )
    if "plan" in asked:
        raise LadderError("--plan says every site's type: leave out --type source")
