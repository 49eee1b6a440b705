"""A plan as a TOML file that a person reads, edits and passes back.

``[sites]`` names every site of the model with its type (``fp32`` leaves a site unchanged). The
comments after the types are for the reader only. The digest identifies the model of the plan.
"""

from __future__ import annotations

import json
import re
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
from ladder.support.documents import parse_toml
from ladder.support.files import file_aside

FORMAT = 1
HEAD = """\
# A plan of Ladder: the type of each site of a model.
# Edit the types under [sites] and pass the file back with --plan; fp32 leaves a site unchanged.
"""
FLOAT_TYPE = DType(FLOAT)
PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
NAMED = 3  # how many sites a message names
# Tables for the reader only: before the types that a person edits, and after them.
BEFORE, AFTER = ("asked", "predicted", "measured", "uniform"), ("front", "reasons", "candidates")
REPORTED = (*BEFORE, *AFTER)


@dataclass(frozen=True)
class Plan:
    """The contents of a plan file. Only ``digest`` and ``sites`` have an effect.

    ``predicted``, ``measured`` and ``uniform`` (by type) are as in the fact ``Allocation``.
    ``front`` has the best plans of many sizes by axis: [value, loss] of each. ``reasons`` has for
    each site the planned type and why, ``candidates`` what each type costs it (for sites that share
    a weight, under the first). ``name`` is what messages call the plan.
    """

    origin: str
    digest: str
    sites: dict[str, DType]
    asked: dict[str, Any] = field(default_factory=dict)
    predicted: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    uniform: dict[str, Any] = field(default_factory=dict)
    front: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, Any] = field(default_factory=dict)
    candidates: dict[str, Any] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    name: str = "the plan"

    @property
    def report(self) -> dict[str, Any]:
        """The tables that an artifact keeps; it has the reasons in the rows of its sites."""
        return {table: getattr(self, table) for table in REPORTED if table != "reasons"}

    def reason(self, site: str) -> str:
        """Why a site has its type: the reason from planning, unless the type was edited."""
        planned, why = _planned(self.reasons.get(site))
        if why and planned == str(self.sites[site]):
            return why
        by = "kept by plan" if self.sites[site].is_float else "plan"
        edited = f"; edited, it was planned as {planned}: {why}" if why else ""
        return f"{by} {Path(self.name).name}{edited}"

    def comment(self, site: str) -> str:
        """What the file says after a site's type."""
        said = f"{self.roles.get(site, '')}: {_planned(self.reasons.get(site))[1]}"
        return " ".join(said.strip(": ").split())


def plan_of(model: ir.Model, origin: str, digest: str, **asked: Any) -> Plan:
    """The plan that allocation attached to a model; the file has ``asked`` next to the budget."""
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
        reasons=_reasons(model, sites),
        roles={site.name: site.role for site in find_sites(model)[0]},
    )


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan file; it appears only when it is complete."""
    if path.is_dir():
        raise LadderError(f"{path}: is a folder; give a file, for example -o plan.toml")
    with file_aside(path) as aside:
        aside.write_text(plan_text(plan), encoding="utf-8")


def plan_text(plan: Plan) -> str:
    """The text of a plan file."""
    tables: dict[str, Mapping[str, Any]] = {
        "model": {"origin": plan.origin, "digest": plan.digest},
        **{name: getattr(plan, name) for name in BEFORE},
    }
    tables |= {f"uniform.{_value(t)}": row for t, row in tables.pop("uniform").items()}
    lines = [HEAD, f"format = {FORMAT}", *_tables(tables), "", "[sites]"]
    for name, type in plan.sites.items():
        comment = plan.comment(name)
        lines.append(
            f"{_value(name)} = {_value(str(type))}" + (f"  # {comment}" if comment else "")
        )
    lines += _tables({name: getattr(plan, name) for name in AFTER})
    return "\n".join(lines) + "\n"


def _tables(tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]"]
            lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items()]
    return lines


def _reasons(model: ir.Model, sites: Mapping[str, DType]) -> dict[str, list[str]]:
    """For each site its type and the reason for it."""
    plan, alone = facts.get(model, BitPlan), facts.get(model, Skipped)
    reasons = dict(alone.reasons) if alone else {}
    reasons |= {name: choice.reason for name, choice in plan.choices.items()} if plan else {}
    return {name: [str(type), reasons.get(name, "")] for name, type in sites.items()}


def _planned(row: Any) -> tuple[str, str]:
    """A planned type and its reason; a plan file may have been edited, or be an older one."""
    whole = isinstance(row, list) and len(row) == 2 and all(isinstance(t, str) for t in row)
    return (row[0], row[1]) if whole else ("", "")


def read_plan(path: Path) -> Plan:
    """Read a plan; an error in the file is reported in one line."""
    if not path.is_file():
        raise LadderError(f"{path}: no such plan file; make one with ladder plan MODEL -o {path}")
    try:
        table = parse_toml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LadderError(f"{path}: not a plan in TOML: {error}") from error
    if table.get("format") != FORMAT:
        raise LadderError(
            f"{path}: plan format {table.get('format')}; this version of Ladder reads {FORMAT}"
        )
    for name in ("model", "sites", *REPORTED):
        needed = name in ("model", "sites")
        if not isinstance(table.get(name, None if needed else {}), dict):
            raise LadderError(f"{path}: the table [{name}] is missing; make the plan again")
    if not all(isinstance(row, dict) for row in table.get("uniform", {}).values()):
        raise LadderError(f"{path}: [uniform] must hold a table for each type; make the plan again")
    model, sites = table["model"], table["sites"]
    return Plan(
        str(model.get("origin", "")),
        str(model.get("digest", "")),
        {name: _type(path, name, text) for name, text in sites.items()},
        **{name: table.get(name, {}) for name in REPORTED},
        name=str(path),
    )


def put_plan(model: ir.Model, plan: Plan, digest: str) -> None:
    """Check that a plan belongs to this model, and attach it as the facts BitPlan and Skipped.

    A compilation simplifies a model before it looks for sites; an ONNX file is quantized as it is.
    So a planned site may not be a site here. It is skipped, with the reason of ``find_sites``.
    """
    if plan.digest != digest:
        raise LadderError(
            f"{plan.name}: made for another model ({plan.origin}, digest {plan.digest[:12]}; "
            f"this one has {digest[:12]}): make a plan for this model"
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
        raise LadderError(
            f'{path}: site {name}: the type must be a string, for example "int4:g128"'
        )
    try:
        dtype = DType.parse(text)
    except LadderError as error:
        raise LadderError(f"{path}: site {name}: {error}") from error
    return FLOAT_TYPE if dtype.is_float else dtype


def _check_names(plan: Plan, sites: Sequence[Site], refused: set[str]) -> None:
    names = {site.name: None for site in sites}
    unknown = [n for n in plan.sites if n not in names and n not in refused]
    for what, found in (
        ("names sites that are not in the model", unknown),
        ("has no type for sites of the model", [n for n in names if n not in plan.sites]),
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
                    f"{plan.name}: {first} and {site.name} share a weight and need the same type; "
                    f"they have {plan.sites[first]} and {plan.sites[site.name]}"
                )


def _key(name: str) -> str:
    return name if PLAIN_KEY.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    """A TOML value: strings and lists are as in JSON, except for one control character."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
