"""What a compilation tells: each site's type, kernel and reason; nothing is quiet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.mux import Mux
from ladder.ir.site import Site
from ladder.options.requests import Wish
from ladder.passes.muxing.report import outlier_row
from ladder.passes.rounding.report import rounding_row
from ladder.pipeline.plan_file import Plan


def compile_report(
    model: ir.Model,
    sites: list[Site],
    source: Source,
    weights: Any,
) -> dict[str, Any]:
    """What each site got and why, and what was left alone; ``plan_rows`` adds the plan."""
    plan, alone = facts.get(model, facts.BitPlan), facts.get(model, facts.LeftAlone)
    assert plan is not None and alone is not None
    muxed = facts.get(model, facts.Muxing) or facts.Muxing()
    rows, bits, parameters, seen = [], 0.0, 0, set()
    for site in sites:
        choice = plan.choices.get(site.name)
        kind = choice.type if choice else "fp32"
        reason = choice.reason if choice else alone.reasons.get(site.name, "")
        row = {"name": site.name, "role": site.role, "n": site.n, "k": site.k}
        row |= {"type": kind, "reason": reason}
        rows.append(row | rounding_row(model, site.name) | outlier_row(model, site.name))
        if id(site.weight) not in seen:
            seen.add(id(site.weight))
            parameters += site.parameters
            bits += DType.parse(kind).stored_bits(site.n, site.k)
        found = muxed.sites.get(site.name)
        if found:  # the outliers' codes stand once more for each of their digits
            again = Mux.parse(found.mux).digits * len(found.channels)
            bits += site.n * again * DType.parse(kind).element.stored_bits
    return {
        "model": source.origin,
        "bits_per_weight": round(bits / parameters, 4),
        "weights_bytes": weights.size_bytes,
        "sites": rows,
        "left_alone": [{"name": n, "reason": r} for n, r in alone.reasons.items()],
        "language_model": source.is_language_model,
    }


def plan_rows(report: Mapping[str, Any], wish: Wish, planned: Plan | None) -> dict[str, Any]:
    """What a report says of the plan: it may differ between plans that have the same types."""
    rows: dict[str, Any] = {
        "assumed": _assumed(wish, planned),
        "plan": planned.report if planned else None,
    }
    if planned is not None:
        names = {row["name"] for row in report["sites"]}
        for table in ("sites", "left_alone"):
            rows[table] = [
                row | ({"reason": planned.reason(row["name"])} if row["name"] in names else {})
                for row in report[table]
            ]
    return rows


def _assumed(wish: Wish, planned: Plan | None) -> list[str]:
    """Options at their default; with a plan those that it was made with, and no type."""
    own = [f"{k} = {v}" for k, v in wish.assumed().items() if not (planned and k == "type")]
    return list(dict.fromkeys([*own, *(planned.asked.get("assumed", []) if planned else [])]))


def stack_notes(model: ir.Model) -> list[str]:
    """Why products that share an activation are computed one by one, where some are."""
    stacked = facts.get(model, facts.Stacked) or facts.Stacked()
    sites: dict[str, list[str]] = {}
    for site, reason in stacked.reasons.items():
        sites.setdefault(reason, []).append(site)
    return [
        f"{len(names)} of the products that share an activation are computed alone ({names[0]}"
        f"{', ...' if len(names) > 1 else ''}): {reason}"
        for reason, names in sites.items()
    ]


def kernel_rows(graph: ir.Model, level: str, function: str) -> list[dict[str, Any]]:
    """Which kernels a function's products got on a level and why, alike ones counted together.

    ``stack`` names the sites that are one product together (``q_proj+k_proj+v_proj``).
    """
    kernels, plan = facts.get(graph, facts.Kernels), facts.get(graph, facts.BitPlan)
    assert kernels is not None and plan is not None
    stacked = facts.get(graph, facts.Stacked) or facts.Stacked()
    stack_of = {site: stack for stack, sites in stacked.sites.items() for site in sites}
    counted: dict[tuple[str, facts.KernelChoice, str], int] = {}
    for site, choice in kernels.choices.items():
        known, stack = plan.choices.get(site), stack_of.get(site, "").rpartition(".")[2]
        key = (known.type if known else "", choice, stack)
        counted[key] = counted.get(key, 0) + 1
    return [
        {
            "level": level,
            "function": function,
            "type": type,
            "scheme": choice.scheme,
            "activation": choice.activation,
            "sites": count,
            "stack": stack,
            "reason": choice.reason,
        }
        for (type, choice, stack), count in counted.items()
    ]
