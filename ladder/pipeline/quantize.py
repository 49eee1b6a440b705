"""ONNX file in, quantized ONNX file out, with a report of every site."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ladder.errors import LadderError, NothingToQuantize
from ladder.export import nbits
from ladder.export.onnx_out import FORMATS, check_activation, export_onnx, form
from ladder.frontend.onnx_file import load_onnx
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.activation import FLOAT
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, LeftAlone
from ladder.ir.site import Refusal, Site, find_sites
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.infra.patterns import parse_rules
from ladder.passes.infra.runner import run_passes
from ladder.passes.move_weight_to_rhs import WeightSecond
from ladder.passes.muxing.report import outlier_notes, outlier_row
from ladder.passes.round_weights import RoundWeights
from ladder.passes.rounding.methods import check_method
from ladder.passes.rounding.report import rounding_notes, rounding_row
from ladder.pipeline.plan_file import Plan, put_plan

PREPARE = (WeightSecond(),)  # the file stays as it is otherwise
NODE_BYTES = 200  # what the extra operator and its names take in the file


def quantize_onnx(
    source: Path,
    target: Path,
    type: str,
    rounding: str = "mse",
    format: str = "qdq",
    keep: tuple[str, ...] = (),
    accuracy_level: int = 0,
    rules: tuple[str, ...] = (),
    planned: Plan | None = None,
    calibrate: Callable[[ir.Model, Source], None] | None = None,
    activation: str = FLOAT,
) -> dict[str, Any]:
    """Quantize ``source`` into ``target`` and report what every site got and why.

    ``keep`` holds patterns (``*``, ``?``) of sites or roles that stay float, ``rules`` has
    ``PATTERN=TYPE``; a plan says all that instead of them and ``type``. ``calibrate``
    leaves the Hessians that a calibrated rounding needs on the model. ``activation`` is a mode
    (``ladder.ir.activation``): integer products, or float as they were. Raises
    ``NothingToQuantize`` where no weight may change; then nothing is written.
    """
    start = time.perf_counter()
    _check_options(type, rounding, format, rules)
    check_activation(format, activation)
    loaded = load_onnx(source)
    model, before = loaded.model, size_on_disk(source, loaded.model)
    run_passes(model, PREPARE)
    if planned is None:
        run_passes(model, [AllocateUniform(type, "|".join(keep), "|".join(rules))])
    else:
        put_plan(model, planned, loaded.digest)
    sites, refusals = find_sites(model)
    left = [*refusals, *_plan_floats(model, sites, format)]
    plan = facts.get(model, BitPlan)
    assert plan is not None
    chosen = [site for site in sites if site.name in plan.choices]
    if not chosen:
        raise NothingToQuantize(_nothing(source, left, bool(sites)))
    if format == "nbits":  # before the work of rounding
        for site in chosen:
            nbits.check(site.name, site.node.op_type, _type(site, plan), site.k)
    rows = [_row(site, plan, format, activation) for site in chosen]
    bits = bits_per_weight(chosen, plan)
    if calibrate is not None:
        calibrate(model, loaded)
    run_passes(model, [RoundWeights(rounding)])
    for row in rows:
        row |= rounding_row(model, row["name"]) | outlier_row(model, row["name"])
    size = export_onnx(model, target, format, accuracy_level, activation)
    return {
        "input": str(source),
        "output": str(target),
        "format": format,
        "size_bytes_before": before,
        "size_bytes": size,
        "bits_per_weight": bits,
        "seconds": time.perf_counter() - start,
        "sites": rows,
        "left_alone": [{"name": r.name, "op": r.op, "reason": r.reason} for r in left],
        "notes": [*loaded.notes, *outlier_notes(model), *rounding_notes(model)],
        "plan": planned.report if planned else None,
    }


def _check_options(type: str, rounding: str, format: str, rules: tuple[str, ...]) -> None:
    """Fail on a mistyped option before a large file is read."""
    DType.parse(type)
    parse_rules("|".join(rules))
    check_method(rounding)
    if format not in FORMATS:
        raise LadderError(f"unknown format '{format}'; one of: {', '.join(FORMATS)}")


def _plan_floats(model: ir.Model, sites: list[Site], format: str) -> list[Refusal]:
    """What stays float: by the plan, or because this file could not hold it well."""
    plan, left = facts.get(model, BitPlan), facts.get(model, LeftAlone)
    assert plan is not None and left is not None
    found = []
    for site in sites:
        choice = plan.choices.get(site.name)
        reason = (
            _float_reason(site, DType.parse(choice.type), format)
            if choice is not None
            else left.reasons[site.name]
        )
        if reason is not None:
            found.append(Refusal(site.name, site.node.op_type, reason))
    for r in found:
        plan.choices.pop(r.name, None)
        left.reasons[r.name] = f"{r.op}: {r.reason}"
    return found


def _float_reason(site: Site, dtype: DType, format: str) -> str | None:
    if dtype.stored_bits(site.n, site.k) / 8 + NODE_BYTES >= site.parameters * 4:
        return f"too small: {dtype} would not shrink its {site.parameters} weights"
    if format == "nbits" and site.node.op_type in ("Gather", "Conv"):
        return nbits.refuse(site.node.op_type, dtype, site.k)
    return None


def _row(site: Site, plan: BitPlan, format: str, activation: str) -> dict[str, Any]:
    choice = plan.choices[site.name]
    return {
        "name": site.name,
        "role": site.role,
        "n": site.n,
        "k": site.k,
        "type": choice.type,
        "reason": choice.reason,
        "form": form(format, site.node.op_type, _type(site, plan), activation),
    }


def _type(site: Site, plan: BitPlan) -> DType:
    return DType.parse(plan.choices[site.name].type)


def bits_per_weight(sites: list[Site], plan: BitPlan) -> float:
    """Stored bits per weight of the quantized sites, scales counted, a tied weight once."""
    weights = {id(site.weight): site for site in sites}.values()
    stored = sum(_type(s, plan).stored_bits(s.n, s.k) for s in weights)
    return stored / sum(site.parameters for site in weights)


def size_on_disk(source: Path, model: ir.Model) -> int:
    """Bytes of the file and of the external data it names."""
    values = [
        value
        for graph in [model.graph, *model.graph.subgraphs()]
        for value in graph.initializers.values()
    ]
    files = {Path(t.path) for v in values if isinstance(t := v.const_value, ir.ExternalTensor)}
    return sum(file.stat().st_size for file in {source, *files})


def _nothing(source: Path, left: list[Refusal], has_sites: bool) -> str:
    """One sentence with the reasons, the most frequent first."""
    if not has_sites and any(r.reason == "already low-bit" for r in left):
        return f"{source} is already quantized: nothing was written"
    counted = Counter((r.op, r.reason) for r in left).most_common()
    reasons = "; ".join(f"{count} {op}: {reason}" for (op, reason), count in counted)
    return (
        f"{source} has nothing to quantize ({reasons or 'it has no weights'}): nothing was written"
    )
