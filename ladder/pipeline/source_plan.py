"""The plan of ``--type source``: every weight in the type that the checkpoint stores it in."""

from __future__ import annotations

from dataclasses import replace

from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Skipped, StoredCodes
from ladder.ir.site import Site, find_sites
from ladder.options.requests import CompileOptions
from ladder.passes.allocate_uniform import UNIFORM
from ladder.passes.allocation.parts import groups_of
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.phases import allocate
from ladder.pipeline.plan_file import FLOAT_TYPE, Plan

KEPT = "kept: the checkpoint stores it in this type"
NO_EQUAL = "rounded: the checkpoint stores it as floats, or in a type that Ladder has not"
# Of weights that cannot be kept: close to lossless, and never a surprise.
OTHERS = DType.parse("int8:g32:fp16")


def has_codes(source: Source) -> bool:
    """Whether the checkpoint stores some weights in types of Ladder."""
    found = facts.get(source.model, StoredCodes)
    return found is not None and bool(found.types)


def source_plan(source: Source, options: CompileOptions) -> Plan:
    """The plan that keeps every weight in the type that the checkpoint stores it in.

    Rules and ``keep`` of the options win. Other weights get the type ``OTHERS``. Refuses a
    checkpoint of floats.
    """
    if not has_codes(source):
        raise LadderError(
            f"--type source: {source.origin} stores its weights as floats, so there are no codes "
            "to keep; leave out --type for a plan, or give a type such as --type int4:g64"
        )
    model = facts.clone(source.model)
    run_passes(model, allocate(replace(options, type=OTHERS)))
    choices, left = facts.need(model, BitPlan).choices, facts.need(model, Skipped).reasons
    stored, types, reasons = facts.need(model, StoredCodes), {}, {}
    for group in groups_of(find_sites(model)[0]):
        kept = _common_type(group, stored)
        for site in group:
            choice = choices.get(site.name)
            ours = choice is not None and choice.reason == UNIFORM
            types[site.name] = choice.type if choice is not None else FLOAT_TYPE
            reasons[site.name] = choice.reason if choice is not None else left[site.name]
            if ours:
                types[site.name] = kept or OTHERS
                reasons[site.name] = KEPT if kept else NO_EQUAL
    roles = {site.name: site.role for site in find_sites(model)[0]}
    said = {name: [str(types[name]), reason] for name, reason in reasons.items()}
    asked = {"budget": "--type source", "minimised": "nothing: codes are kept"}
    return Plan(source.origin, source.digest, types, asked, reasons=said, roles=roles)


def _common_type(group: list[Site], stored: StoredCodes) -> DType | None:
    """The type that all sites of one weight are stored in."""
    found = {stored.types.get(site.name) for site in group}
    return found.pop() if len(found) == 1 else None
