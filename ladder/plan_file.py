"""A plan as a TOML file that a person reads, edits and passes back.

``[sites]`` names every site of the model with its type (``fp32``: left as it is); the comments
behind are for reading only. The digest ties the file to the model that it was made for.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.files import file_aside
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import Allocation, BitPlan, Choice, LeftAlone
from ladder.ir.site import Site, find_sites
from ladder.passes.allocation.parts import FLOAT, groups_of

FORMAT = 1
HEAD = """\
# A plan of Ladder: which type each site of a model gets.
# Edit the types under [sites] and pass the file back with --plan; fp32 leaves a site as it is.
"""
NAMED = 3  # sites that a message names


@dataclass(frozen=True)
class Plan:
    """What the file holds. ``asked``, ``predicted`` and ``measured`` are for the reader."""

    origin: str
    digest: str
    sites: dict[str, str]
    asked: dict[str, Any] = field(default_factory=dict)
    predicted: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


def plan_of(model: ir.Model, origin: str, digest: str, **asked: Any) -> Plan:
    """The plan that allocation left on a model; ``asked`` goes to the file with the budget."""
    plan, found = facts.get(model, BitPlan), facts.get(model, Allocation)
    assert plan is not None and found is not None
    names = [site.name for site in find_sites(model)[0]]
    choices = plan.choices
    sites = {name: choices[name].type if name in choices else FLOAT for name in names}
    return Plan(
        origin,
        digest,
        sites,
        {"budget": found.asked, "minimised": found.minimised, **asked},
        {"metric": found.metric, **found.predicted},
    )


def write_plan(path: Path, plan: Plan, comments: Mapping[str, str]) -> None:
    """Write the file aside and then in place; ``comments`` are by site."""
    if path.is_dir():
        raise LadderError(f"{path}: is a folder; give a file, for example -o plan.toml")
    with file_aside(path) as aside:
        aside.write_text(plan_text(plan, comments), encoding="utf-8")


def plan_text(plan: Plan, comments: Mapping[str, str]) -> str:
    """The file's text."""
    tables: dict[str, Mapping[str, Any]] = {
        "model": {"origin": plan.origin, "digest": plan.digest},
        "asked": plan.asked,
        "predicted": plan.predicted,
        "measured": plan.measured,
    }
    lines = [HEAD, f"format = {FORMAT}"]
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {_value(value)}" for key, value in table.items()]
    lines += ["", "[sites]"]
    for name, type in plan.sites.items():
        comment = " ".join(comments.get(name, "").split())
        lines.append(f"{_value(name)} = {_value(type)}" + (f"  # {comment}" if comment else ""))
    return "\n".join(lines) + "\n"


def comments_of(model: ir.Model) -> dict[str, str]:
    """For each site its role and the reason of its type."""
    plan, alone = facts.get(model, BitPlan), facts.get(model, LeftAlone)
    reasons = dict(alone.reasons) if alone else {}
    reasons |= {name: choice.reason for name, choice in plan.choices.items()} if plan else {}
    return {s.name: f"{s.role}: {reasons.get(s.name, '')}" for s in find_sites(model)[0]}


def read_plan(path: Path) -> Plan:
    """Read a plan; whatever is wrong with the file is one plain line."""
    if not path.is_file():
        raise LadderError(f"{path}: no such plan file; make one with ladder plan MODEL -o {path}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LadderError(f"{path}: not a plan in TOML: {error}") from error
    if table.get("format") != FORMAT:
        raise LadderError(
            f"{path}: its format is {table.get('format')}; this Ladder reads {FORMAT}"
        )
    for name in ("model", "sites", "asked", "predicted", "measured"):
        needed = name in ("model", "sites")
        if not isinstance(table.get(name, None if needed else {}), dict):
            raise LadderError(f"{path}: has no table [{name}]; make the plan again")
    model, sites = table["model"], table["sites"]
    return Plan(
        str(model.get("origin", "")),
        str(model.get("digest", "")),
        {name: _type(path, name, text) for name, text in sites.items()},
        *(table.get(name, {}) for name in ("asked", "predicted", "measured")),
    )


def put_plan(model: ir.Model, plan: Plan, digest: str, path: Path) -> None:
    """Check that a plan is one of this model, and leave it as the facts BitPlan and LeftAlone."""
    if plan.digest != digest:
        raise LadderError(
            f"{path}: was made for another model ({plan.origin}, digest {plan.digest[:12]}; "
            f"this one is {digest[:12]}): plan again"
        )
    sites, refusals = find_sites(model)
    _check_names(path, plan, sites)
    _check_shared(path, plan, sites)
    why = f"plan {path.name}"
    choices = {n: Choice(type, why) for n, type in plan.sites.items() if type != FLOAT}
    reasons = {r.name: f"{r.op}: {r.reason}" for r in refusals}
    reasons |= {n: f"kept by {why}" for n, type in plan.sites.items() if type == FLOAT}
    facts.put(model, BitPlan(choices))
    facts.put(model, LeftAlone(reasons))


def _type(path: Path, name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise LadderError(f'{path}: site {name}: the type is a text, for example "int4:g128"')
    try:
        dtype = DType.parse(text)
    except LadderError as error:
        raise LadderError(f"{path}: site {name}: {error}") from error
    return FLOAT if dtype.is_float else str(dtype)


def _check_names(path: Path, plan: Plan, sites: Sequence[Site]) -> None:
    names = {site.name: None for site in sites}
    for what, found in (
        ("names sites that the model has not", [n for n in plan.sites if n not in names]),
        ("lacks sites of the model", [n for n in names if n not in plan.sites]),
    ):
        if found:
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            raise LadderError(f"{path}: {what}: {', '.join(found[:NAMED])}{more}")


def _check_shared(path: Path, plan: Plan, sites: Sequence[Site]) -> None:
    for group in groups_of(sites):
        first = group[0].name
        for site in group[1:]:
            if plan.sites[site.name] != plan.sites[first]:
                raise LadderError(
                    f"{path}: {first} and {site.name} share one weight, so one type; "
                    f"they have {plan.sites[first]} and {plan.sites[site.name]}"
                )


def _value(value: Any) -> str:
    """A TOML value: JSON's texts and lists are TOML's, but for one control character."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
