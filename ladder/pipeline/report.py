"""The report of a compilation: each site's type, its kernel, and the reasons for both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.mux import Mux
from ladder.ir.site import Site
from ladder.options.requests import CompileOptions
from ladder.options.sites import SiteOptions
from ladder.passes.muxing.report import outlier_notes, outlier_row
from ladder.passes.round_weights import KEPT
from ladder.passes.rounding.report import rounding_notes, rounding_row
from ladder.pipeline.plan_file import Plan
from ladder.support.results import Result


@dataclass
class CompileReport(Result):
    """The result of ``ladder compile``: each site's type with its reason, and the skipped nodes.

    ``check`` has the ``error`` of the float graph in TVM against ONNX Runtime on the original, as a
    part of the largest value, or the ``reason`` why they were not compared. ``states`` are those of
    a language model, as they are stored. ``seconds`` is the time of the whole compilation.
    ``size_bytes`` is the size of all of the artifact's files, ``weights_bytes`` that of the packed
    weights.
    """

    model: str
    bits_per_weight: float
    weights_bytes: int
    sites: list[dict[str, Any]]
    skipped: list[dict[str, str]]
    language_model: bool
    notes: list[str]
    kernels: list[dict[str, Any]]
    size_bytes: int = 0
    seconds: float = 0.0
    check: dict[str, Any] = field(default_factory=dict)
    states: list[dict[str, Any]] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    plan: dict[str, Any] | None = None

    @property
    def _rounded(self) -> bool:
        """Whether any weight was rounded, and not all of them kept."""
        return any(row.get("rounding", KEPT) != KEPT for row in self.sites)

    def of(
        self, source: Source, options: CompileOptions, planned: Plan | None, seconds: float
    ) -> CompileReport:
        """The report of one request. Plans with the same types share all fields but these."""
        names = {row["name"] for row in self.sites}

        def said(row: dict[str, Any]) -> dict[str, Any]:
            known = planned is not None and row["name"] in names
            return row | ({"reason": planned.reason(row["name"])} if known and planned else {})

        return replace(
            self,
            model=source.origin,
            sites=[said(row) for row in self.sites],
            skipped=[said(row) for row in self.skipped],
            seconds=round(seconds, 2),
            assumed=assumed_texts(options, planned, source.is_language_model, self._rounded),
            plan=planned.report if planned else None,
        )


def compile_report(
    model: ir.Model,
    sites: list[Site],
    source: Source,
    weights_bytes: int,
    kernels: list[dict[str, Any]],
) -> CompileReport:
    """The report of a model after rounding and lowering."""
    plan, alone = facts.need(model, facts.BitPlan), facts.need(model, facts.Skipped)
    muxed = facts.get(model, facts.Muxing) or facts.Muxing()
    rows, stored, parameters, seen = [], 0.0, 0, dict[int, str]()
    for site in sites:
        choice = plan.choices.get(site.name)
        dtype = choice.type if choice else DType("fp32")
        reason = choice.reason if choice else alone.reasons.get(site.name, "")
        row = {"name": site.name, "role": site.role, "n": site.n, "k": site.k}
        bits = dtype.bits_per_weight(site.n, site.k)
        row |= {"type": str(dtype), "bits": round(bits, 4), "reason": reason}
        rows.append(row | rounding_row(model, site.name) | outlier_row(model, site.name))
        if first := seen.get(id(site.weight)):
            rows[-1]["tied"] = first
        else:
            seen[id(site.weight)] = site.name
            parameters += site.parameters
            stored += dtype.stored_bits(site.n, site.k)
        found = muxed.sites.get(site.name)
        if found:  # the codes of outlier channels are stored once more for each digit
            again = Mux.parse(found.mux).digits * len(found.channels)
            stored += site.n * again * dtype.element.stored_bits
    return CompileReport(
        model=source.origin,
        bits_per_weight=round(stored / parameters, 4),
        weights_bytes=weights_bytes,
        sites=rows,
        skipped=[{"name": n, "reason": r} for n, r in alone.reasons.items()],
        language_model=source.is_language_model,
        notes=[
            *source.notes,
            *expert_notes(sites),
            *outlier_notes(model),
            *rounding_notes(model),
            *stack_notes(model),
        ],
        kernels=kernels,
    )


def assumed_texts(
    options: SiteOptions, planned: Plan | None, language_model: bool, rounded: bool = True
) -> list[str]:
    """The options at their default; with a plan, those it was made with, without a type."""
    idle = {*(["type"] if planned else []), *([] if rounded else ["rounding"])}
    found = options.assumed(language_model)
    own = [f"{name} = {shown(value)}" for name, value in found.items() if name not in idle]
    return list(dict.fromkeys([*own, *(planned.asked.get("assumed", []) if planned else [])]))


def shown(value: Any) -> str:
    """An option's value as text for the command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def expert_notes(sites: list[Site]) -> list[str]:
    """Of a mixture of experts: the weights that one token is multiplied by."""
    weights = {id(site.weight): site for site in sites}.values()
    mixed = {site.experts for site in weights if site.experts[1] > 1}
    if not mixed:
        return []
    every = sum(site.parameters for site in weights)
    active = sum(s.parameters * s.experts[0] // s.experts[1] for s in weights)
    said = ", ".join(f"{chosen} of {count}" for chosen, count in sorted(mixed))
    return [f"{active} of {every} weights are active for a token: {said} experts in each layer"]


def stack_notes(model: ir.Model) -> list[str]:
    """Why some products that share an activation are computed one by one."""
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
    """The kernels of a function's products on a level, with reasons; equal rows are merged.

    ``stack`` names the sites that are computed as one product (``q_proj+k_proj+v_proj``).
    """
    kernels, plan = facts.need(graph, facts.Kernels), facts.need(graph, facts.BitPlan)
    stacked = facts.get(graph, facts.Stacked) or facts.Stacked()
    stack_of = {site: stack for stack, sites in stacked.sites.items() for site in sites}
    counted: dict[tuple[str, facts.KernelChoice, str], int] = {}
    for site, choice in kernels.choices.items():
        known, stack = plan.choices.get(site), stack_of.get(site, "").rpartition(".")[2]
        key = (str(known.type) if known else "", choice, stack)
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
