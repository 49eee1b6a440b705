"""Quantize an ONNX file, and report every site."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ladder.errors import NothingToQuantize
from ladder.export import nbits, rounded
from ladder.export.forms import NBITS
from ladder.export.onnx_out import FileForm, export_onnx
from ladder.frontend.onnx_file import load_onnx
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Muxing, Skipped
from ladder.ir.site import Refusal, Site, constant_of, find_sites
from ladder.options.requests import QuantizeOptions
from ladder.options.schema import refuse_inapplicable
from ladder.passes.infra.choices import put_choices
from ladder.passes.infra.patterns import check_pattern, matches
from ladder.passes.infra.runner import run_passes
from ladder.passes.muxing.report import outlier_notes, outlier_row
from ladder.passes.rounding.report import rounding_notes, rounding_row
from ladder.pipeline.file_bench import benched
from ladder.pipeline.float_check.written import WrittenCheck
from ladder.pipeline.phases import PREPARE_FILE, round_weights
from ladder.pipeline.plan_file import Plan
from ladder.pipeline.report import assumed_texts
from ladder.pipeline.rounding_choice import with_rounding
from ladder.pipeline.steps import calibrated, put_types
from ladder.support.results import Result

# Scales of a model in another float type than float32.
SCALES = {ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}
NODE_BYTES = 200  # size of the extra operator and its names in the file


@dataclass(frozen=True)
class QuantizeReport(Result):
    """The result of ``ladder quantize``: sizes in bytes, and each site's type with its reason.

    ``check`` has the ``error`` of the file against the original with its weights rounded, or the
    ``reason`` why they were not compared. ``bits_per_weight`` is that of the types of the
    ``quantized_weights``, ``file_bits_per_weight`` that of the file over all its ``weights``.
    ``expected`` says what each form means for ONNX Runtime; ``bench`` is what ``--bench`` measured.
    """

    input: str
    output: str
    format: str
    size_bytes_before: int
    size_bytes: int
    bits_per_weight: float
    file_bits_per_weight: float
    weights: int
    quantized_weights: int
    seconds: float
    sites: list[dict[str, Any]]
    skipped: list[dict[str, str]]
    notes: list[str]
    check: dict[str, Any]
    expected: list[str]
    bench: dict[str, Any] | None
    plan: dict[str, Any] | None
    assumed: list[str]


def quantize_onnx(
    source: Path, target: Path, options: QuantizeOptions, planned: Plan | None = None
) -> QuantizeReport:
    """Quantize the ONNX file ``source`` into ``target``; report each site's type and its reason.

    The types come from the plan, if there is one, else from the options. Raises
    ``NothingToQuantize`` where no weight may change; then nothing is written.
    """
    start = time.perf_counter()
    options.check()
    how = form_of(options)
    how.check()
    loaded = load_onnx(source)
    refuse_inapplicable(options, loaded.is_language_model, loaded.origin)
    options = with_rounding(options, loaded, planned)
    check = WrittenCheck(loaded, options)
    model, before = loaded.model, size_on_disk(source, loaded.model)
    weights = float_weights(model)
    run_passes(model, PREPARE_FILE)
    put_types(model, loaded, options, planned)
    sites, refusals = find_sites(model)
    _scales_in_kind(model, sites)
    left = [*refusals, *_keep_floats(model, sites, options)]
    plan = facts.need(model, BitPlan)
    chosen = [site for site in sites if site.name in plan.choices]
    if not chosen:
        raise NothingToQuantize(_nothing(source, left, bool(sites)))
    if how.format == NBITS:  # rounding is slow, so check first
        for site in chosen:
            nbits.check(site.name, site.node.op_type, _type(site, plan), site.k, site.kind)
    rows = [_row(site, plan, how) for site in chosen]
    bits, expected = bits_per_weight(chosen, plan), _expected(chosen, plan, how)
    calibrated(model, loaded, options)
    check.prepared(model)
    run_passes(model, round_weights(options))
    check.rounded(model)
    muxed = facts.get(model, Muxing) or Muxing()
    for row in rows:
        row |= {"form": rounded.MUXED} if row["name"] in muxed.sites else {}
        row |= rounding_row(model, row["name"]) | outlier_row(model, row["name"])
    size = export_onnx(model, target, how, check, source)
    measured = benched(loaded, options, {source: before, target: size}) if options.bench else None
    return QuantizeReport(
        input=str(source),
        output=str(target),
        format=options.format,
        size_bytes_before=before,
        size_bytes=size,
        bits_per_weight=bits,
        file_bits_per_weight=8 * size / weights,
        weights=weights,
        quantized_weights=_distinct(chosen),
        seconds=time.perf_counter() - start,
        sites=rows,
        skipped=[{"name": r.name, "op": r.op, "reason": r.reason} for r in left],
        notes=[
            *loaded.notes,
            *_float_notes(chosen, plan, how),
            *outlier_notes(model),
            *rounding_notes(model),
        ],
        check=check.result,
        expected=expected,
        bench=measured,
        plan=planned.report if planned else None,
        assumed=assumed_texts(options, planned, loaded.is_language_model),
    )


def form_of(options: QuantizeOptions) -> FileForm:
    """How the options ask for the file to be written."""
    return FileForm(options.format, options.purpose, options.accuracy_level, options.activation)


def _keep_floats(model: ir.Model, sites: list[Site], options: QuantizeOptions) -> list[Refusal]:
    """Add to a plan the sites that stay float: by --only, or as the file would not gain."""
    for pattern in options.only:
        check_pattern("--only", pattern, sites)
    plan, left = facts.need(model, BitPlan), facts.need(model, Skipped)
    kept = []
    for site in sites:
        choice = plan.choices.get(site.name)
        reason = (
            _float_reason(site, choice.type, options)
            if choice is not None
            else left.reasons[site.name]
        )
        if reason is not None:
            kept.append(Refusal(site.name, site.node.op_type, reason))
    reasons = {r.name: f"{r.op}: {r.reason}" for r in kept}
    put_choices(model, {n: c for n, c in plan.choices.items() if n not in reasons}, reasons)
    return kept


def _float_reason(site: Site, dtype: DType, options: QuantizeOptions) -> str | None:
    if options.only and not any(matches(site, pattern) for pattern in options.only):
        return "not among --only"
    if site.parameters < options.least_weights:
        return f"{site.parameters} weights, fewer than --least-weights {options.least_weights}"
    if dtype.stored_bits(site.n, site.k) / 8 + NODE_BYTES >= _bytes(site):
        return f"too small: {dtype} would not shrink its {site.parameters} weights"
    if options.format == NBITS and site.node.op_type in ("Gather", "Conv"):
        return nbits.refuse(site.node.op_type, dtype, site.k)
    return None


def _bytes(site: Site) -> float:
    """Bytes of the weight in the original file."""
    return site.parameters * site.kind.itemsize


def _scales_in_kind(model: ir.Model, sites: list[Site]) -> None:
    """Scales of type fp32, the default, become those of the model: fp16 or bf16."""
    choices = dict(facts.need(model, BitPlan).choices)
    for site in sites:
        choice, scale = choices.get(site.name), SCALES.get(site.kind)
        if choice is not None and scale is not None and choice.type.scale == "fp32":
            choices[site.name] = replace(choice, type=replace(choice.type, scale=scale))
    facts.put(model, BitPlan(choices))


def _row(site: Site, plan: BitPlan, how: FileForm) -> dict[str, Any]:
    choice = plan.choices[site.name]
    return {
        "name": site.name,
        "role": site.role,
        "n": site.n,
        "k": site.k,
        "type": str(choice.type),
        "reason": choice.reason,
        "form": how.text(site.node.op_type, _type(site, plan), site.k, site.kind),
    }


def _expected(sites: list[Site], plan: BitPlan, how: FileForm) -> list[str]:
    """What the forms mean for ONNX Runtime, the form of most weights first."""
    counted: Counter[tuple[str, str]] = Counter()
    for site in sites:
        op, dtype = site.node.op_type, _type(site, plan)
        about = (op, dtype, site.k, site.kind)
        key = (f"{op} as {how.text(*about)}", how.effect(*about))
        counted[key] += site.parameters
    return [f"{what}: {effect}" for (what, effect), _ in counted.most_common()]


def _float_notes(sites: list[Site], plan: BitPlan, how: FileForm) -> list[str]:
    """Which products and convolutions keep float activations although integers were asked for."""
    reasons = (
        (s.node.op_type, rounded.refuse(how.mode, s.node.op_type, _type(s, plan), s.k, s.kind))
        for s in sites
    )
    counted = Counter((op, reason) for op, reason in reasons if reason is not None)
    overflow = [rounded.OVERFLOW] if rounded.may_overflow(how.mode, _types(sites, plan)) else []
    said = [f"{count} {op}: activations stay float: {why}" for (op, why), count in counted.items()]
    return said + overflow


def _types(sites: list[Site], plan: BitPlan) -> set[DType]:
    """The types of products and convolutions."""
    return {_type(site, plan) for site in sites if site.node.op_type != "Gather"}


def float_weights(model: ir.Model) -> int:
    """The number of elements of all float constants of the model."""
    values = [v for g in [model.graph, *model.graph.subgraphs()] for v in g.initializers.values()]
    values += [n.outputs[0] for n in model.graph.all_nodes() if n.op_type == "Constant"]
    tensors = [t for v in values if (t := constant_of(v)) is not None]
    return sum(t.size for t in tensors if t.dtype.is_floating_point())


def _distinct(sites: list[Site]) -> int:
    return sum(s.parameters for s in {id(site.weight): site for site in sites}.values())


def _type(site: Site, plan: BitPlan) -> DType:
    return plan.choices[site.name].type


def bits_per_weight(sites: list[Site], plan: BitPlan) -> float:
    """Stored bits per weight of the quantized sites, scales included; a tied weight counts once."""
    weights = {id(site.weight): site for site in sites}.values()
    stored = sum(_type(s, plan).stored_bits(s.n, s.k) for s in weights)
    return stored / sum(site.parameters for site in weights)


def size_on_disk(source: Path, model: ir.Model) -> int:
    """Size in bytes of the file and of the external data that it names."""
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
