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
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import Allocation, BitPlan, Choice, Skipped
from ladder.ir.site import Site, find_sites
from ladder.passes.allocation.parts import FLOAT, groups_of
from ladder.passes.infra.choices import put_choices
from ladder.support.files import file_aside

FORMAT = 1
HEAD = """\
# A plan of Ladder: which type each site of a model gets.
# Edit the types under [sites] and pass the file back with --plan; fp32 leaves a site as it is.
"""
FLOAT_TYPE = DType(FLOAT)
NAMED = 3  # sites that a message names
TOLD = ("asked", "predicted", "measured", "uniform")  # tables that only tell


@dataclass(frozen=True)
class Plan:
    """What the file holds. Only ``digest`` and ``sites`` are carried out; the rest is to be read.

    ``predicted``, ``measured`` and ``uniform`` (by type) are as in the fact ``Allocation``,
    ``comments`` are by site and not read back, and ``name`` is what messages call the plan.
    """

    origin: str
    digest: str
    sites: dict[str, DType]
    asked: dict[str, Any] = field(default_factory=dict)
    predicted: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    uniform: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    name: str = "the plan"

    @property
    def report(self) -> dict[str, Any]:
        """What an artifact keeps of it."""
        return {table: getattr(self, table) for table in TOLD}

    def reason(self, site: str) -> str:
        """Why a site has its type: as the plan was made, or that its file says so."""
        said = self.comments.get(site, "").partition(": ")[2]
        by = "kept by plan" if self.sites[site].is_float else "plan"
        return said or f"{by} {Path(self.name).name}"


def plan_of(model: ir.Model, origin: str, digest: str, **asked: Any) -> Plan:
    """The plan that allocation left on a model; ``asked`` goes to the file with the budget."""
    found, choices = facts.need(model, Allocation), facts.need(model, BitPlan).choices
    names = [site.name for site in find_sites(model)[0]]
    sites = {name: choices[name].type if name in choices else FLOAT_TYPE for name in names}
    return Plan(
        origin,
        digest,
        sites,
        {"budget": found.asked, "minimised": found.minimised, **asked},
        {"metric": found.metric, **found.predicted},
        uniform=dict(found.uniform),
        comments=_comments(model),
    )


def write_plan(path: Path, plan: Plan) -> None:
    """Write the file aside and then in place."""
    if path.is_dir():
        raise LadderError(f"{path}: is a folder; give a file, for example -o plan.toml")
    with file_aside(path) as aside:
        aside.write_text(plan_text(plan), encoding="utf-8")


def plan_text(plan: Plan) -> str:
    """The file's text."""
    tables: dict[str, Mapping[str, Any]] = {
        "model": {"origin": plan.origin, "digest": plan.digest},
        **plan.report,
    }
    tables |= {f"uniform.{_value(t)}": row for t, row in tables.pop("uniform").items()}
    lines = [HEAD, f"format = {FORMAT}"]
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {_value(value)}" for key, value in table.items()]
    lines += ["", "[sites]"]
    for name, type in plan.sites.items():
        comment = " ".join(plan.comments.get(name, "").split())
        lines.append(
            f"{_value(name)} = {_value(str(type))}" + (f"  # {comment}" if comment else "")
        )
    return "\n".join(lines) + "\n"


def _comments(model: ir.Model) -> dict[str, str]:
    """For each site its role and the reason of its type."""
    plan, alone = facts.get(model, BitPlan), facts.get(model, Skipped)
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
    for name in ("model", "sites", *TOLD):
        needed = name in ("model", "sites")
        if not isinstance(table.get(name, None if needed else {}), dict):
            raise LadderError(f"{path}: has no table [{name}]; make the plan again")
    if not all(isinstance(row, dict) for row in table.get("uniform", {}).values()):
        raise LadderError(f"{path}: [uniform] holds a table for each type; make the plan again")
    model, sites = table["model"], table["sites"]
    return Plan(
        str(model.get("origin", "")),
        str(model.get("digest", "")),
        {name: _type(path, name, text) for name, text in sites.items()},
        **{name: table.get(name, {}) for name in TOLD},
        name=str(path),
    )


def put_plan(model: ir.Model, plan: Plan, digest: str) -> None:
    """Check that a plan is one of this model, and leave it as the facts BitPlan and Skipped.

    A compilation cleans a model up before it looks for sites, an ONNX file is quantized as it is.
    So a planned site may be none here: it is left alone, for the reason that ``find_sites`` has.
    """
    if plan.digest != digest:
        raise LadderError(
            f"{plan.name}: was made for another model ({plan.origin}, digest {plan.digest[:12]}; "
            f"this one is {digest[:12]}): plan again"
        )
    sites, refusals = find_sites(model)
    _check_names(plan, sites, {r.name for r in refusals})
    _check_shared(plan, sites)
    names = {site.name for site in sites}
    planned = {n: t for n, t in plan.sites.items() if n in names}
    choices = {n: Choice(t, plan.reason(n)) for n, t in planned.items() if not t.is_float}
    put_choices(model, choices, {n: plan.reason(n) for n, t in planned.items() if t.is_float})


def _type(path: Path, name: str, text: Any) -> DType:
    if not isinstance(text, str):
        raise LadderError(f'{path}: site {name}: the type is a text, for example "int4:g128"')
    try:
        dtype = DType.parse(text)
    except LadderError as error:
        raise LadderError(f"{path}: site {name}: {error}") from error
    return FLOAT_TYPE if dtype.is_float else dtype


def _check_names(plan: Plan, sites: Sequence[Site], refused: set[str]) -> None:
    names = {site.name: None for site in sites}
    unknown = [n for n in plan.sites if n not in names and n not in refused]
    for what, found in (
        ("names sites that the model has not", unknown),
        ("lacks sites of the model", [n for n in names if n not in plan.sites]),
    ):
        if found:
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            raise LadderError(f"{plan.name}: {what}: {', '.join(found[:NAMED])}{more}")


def _check_shared(plan: Plan, sites: Sequence[Site]) -> None:
    for group in groups_of(sites):
        first = group[0].name
        for site in group[1:]:
            if plan.sites[site.name] != plan.sites[first]:
                raise LadderError(
                    f"{plan.name}: {first} and {site.name} share one weight, so one type; "
                    f"they have {plan.sites[first]} and {plan.sites[site.name]}"
                )


def _value(value: Any) -> str:
    """A TOML value: JSON's texts and lists are TOML's, but for one control character."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
