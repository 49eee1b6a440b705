"""What a compilation tells: each site's type, kernel and reason; nothing is quiet."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ladder.frontend.source import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.site import Site
from ladder.wish import Wish


def compile_report(
    model: ir.Model, sites: list[Site], source: Source, wish: Wish, weights: Any
) -> dict[str, Any]:
    """What each site got and why, and what was left alone."""
    plan, alone = facts.get(model, facts.BitPlan), facts.get(model, facts.LeftAlone)
    rounding = facts.get(model, facts.Rounding)
    assert plan is not None and alone is not None and rounding is not None
    rows, bits, parameters, seen = [], 0.0, 0, set()
    for site in sites:
        choice = plan.choices.get(site.name)
        kind = choice.type if choice else "fp32"
        reason = choice.reason if choice else alone.reasons.get(site.name, "")
        row = {"name": site.name, "role": site.role, "n": site.n, "k": site.k}
        error = rounding.errors.get(site.name)
        rows.append({**row, "type": kind, "reason": reason, "weight_error": error})
        if id(site.weight) not in seen:
            seen.add(id(site.weight))
            parameters += site.parameters
            bits += DType.parse(kind).stored_bits(site.n, site.k)
    assumed = [
        f"{name} = {value}"
        for name, value in vars(Wish()).items()
        if getattr(wish, name) == value and value not in ("", ())
    ]
    return {
        "model": source.origin,
        "bits_per_weight": round(bits / parameters, 4),
        "weights_bytes": weights.size_bytes,
        "sites": rows,
        "left_alone": [{"name": n, "reason": r} for n, r in alone.reasons.items()],
        "assumed": assumed,
        "language_model": source.is_language_model,
    }


def kernel_rows(graph: ir.Model, level: str, function: str) -> list[dict[str, Any]]:
    """Which kernels a function's products got on a level and why, alike ones counted together."""
    kernels, plan = facts.get(graph, facts.Kernels), facts.get(graph, facts.BitPlan)
    assert kernels is not None and plan is not None
    counted: dict[tuple[str, facts.KernelChoice], int] = {}
    for site, choice in kernels.choices.items():
        known = plan.choices.get(site)
        key = (known.type if known else "", choice)
        counted[key] = counted.get(key, 0) + 1
    return [
        {
            "level": level,
            "function": function,
            "type": type,
            "scheme": choice.scheme,
            "activation": choice.activation,
            "sites": count,
            "reason": choice.reason,
        }
        for (type, choice), count in counted.items()
    ]
