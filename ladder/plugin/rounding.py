"""The first step: products and embeddings over float weights become low-bit operators."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import tvm
from tvm import relax

from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Skipped
from ladder.ir.site import SITE_KEY
from ladder.options.requests import CompileOptions
from ladder.passes.infra.runner import run_passes
from ladder.passes.round_weights import RoundWeights
from ladder.passes.rounding.methods import QUICKEST
from ladder.pipeline.phases import allocate
from ladder.pipeline.plan_file import put_plan, read_plan
from ladder.plugin import operator_names, operators, packing
from ladder.plugin.model import Skeleton, as_bytes, round_array
from ladder.plugin.mutate import Make, Rewriter, emit_packed, functions, tensor_type
from ladder.plugin.sites import Refused, Use, find_uses

LOG = logging.getLogger("ladder.plugin")
REPORT = "ladder.report"


def round_module(mod: Any, options: CompileOptions) -> Any:
    """``mod`` with its weights rounded as the options or the plan say; other bindings stay."""
    uses, refused = _all_uses(mod)
    if not uses:
        LOG.warning("no weight to round: %s", _reasons(refused) or "no product has a weight")
        return mod
    skeleton = Skeleton(uses)
    _plan(skeleton, options)
    plan = facts.need(skeleton.model, BitPlan)
    alone = facts.get(skeleton.model, Skipped) or Skipped()
    made = _round_constants(skeleton, plan, options.rounding)
    made.update(_round_parameters(skeleton, plan, options.rounding))
    rows = {name: [str(c.type), c.reason] for name, c in plan.choices.items()}
    left = {**alone.reasons, **{r.name: f"{r.op}: {r.reason}" for r in refused}}
    if options.type == CompileOptions().type and not options.plan:
        LOG.warning(
            "weights become %s: set the attribute ladder.type for another type", options.type
        )
    LOG.info("%d sites rounded, %d skipped", len(rows), len(left))
    done = Rewriter(mod, made).rewritten()
    return done.with_attr(REPORT, json.dumps({"sites": rows, "skipped": left}))


def _all_uses(mod: Any) -> tuple[list[Use], list[Refused]]:
    uses: list[Use] = []
    refused: list[Refused] = []
    for var, func in functions(mod):
        found, others = find_uses(var.name_hint, func)
        uses += found
        refused += others
    return uses, refused


def _reasons(refused: list[Refused]) -> str:
    return "; ".join(f"{r.name}: {r.reason}" for r in refused[:3])


def _plan(skeleton: Skeleton, options: CompileOptions) -> None:
    """Add the facts BitPlan and Skipped to the model.

    A plan has the site names of another frontend, but Relax's constants have no names. In that
    case its rows are used in order, which is that of the graph.
    """
    if not options.plan:
        run_passes(skeleton.model, allocate(options))
        return
    plan = read_plan(options.plan)
    if set(plan.sites) != set(skeleton.uses) and len(plan.sites) == len(skeleton.uses):
        LOG.warning("%s names other sites: its rows are used in order", options.plan)
        plan = replace(plan, sites=dict(zip(skeleton.uses, plan.sites.values(), strict=True)))
    put_plan(skeleton.model, plan, plan.digest)


def _round_constants(skeleton: Skeleton, plan: BitPlan, method: str) -> dict[Any, Make]:
    model = skeleton.model
    known = {n: c for n, c in plan.choices.items() if skeleton.is_constant(n)}
    facts.put(model, BitPlan(known))
    run_passes(model, [RoundWeights(method)])
    made: dict[Any, Make] = {}
    constants: dict[ir.Value, Any] = {}
    for node in model.graph:
        site = node.metadata_props.get(SITE_KEY, "")
        if site not in known or node.op_type not in operator_names.OF_DIALECT:
            continue
        weight = [_constant(value, constants) for value in node.inputs[1:] if value is not None]
        dtype = known[site].type
        for use in skeleton.uses[site]:
            made[use.var] = _maker(use, dtype, site, weight)
    return made


def _constant(value: ir.Value, made: dict[ir.Value, Any]) -> Any:
    if value not in made:
        assert value.const_value is not None
        made[value] = relax.const(as_bytes(value.const_value.numpy()))
    return made[value]


def _maker(use: Use, dtype: DType, site: str, weight: list[Any]) -> Make:
    op = operator_names.GATHER if use.gathers else operator_names.MATMUL
    n, k = use.nk
    return lambda new: operators.low_bit(op, new.new(use.data), weight, dtype, n, k, site)


def _round_parameters(skeleton: Skeleton, plan: BitPlan, method: str) -> dict[Any, Make]:
    """Rounding at run time: a call of a packed function that returns the operands."""
    made: dict[Any, Make] = {}
    for site, choice in plan.choices.items():
        if not skeleton.is_constant(site):
            for use in skeleton.uses[site]:
                made[use.var] = _late_maker(use, choice.type, site, method)
    return made


def _late_maker(use: Use, dtype: DType, site: str, method: str) -> Make:
    # Rounding an empty array gives the types of the operands.
    nothing = round_array(np.zeros(use.nk, np.float32), str(dtype), QUICKEST, False, site)
    types = [tensor_type(array) for array in nothing]

    def make(new: Rewriter) -> Any:
        texts = [tvm.ir.StringImm(str(dtype)), tvm.ir.StringImm(method)]
        how = [tvm.tirx.IntImm("int64", int(use.transposed)), tvm.ir.StringImm(site)]
        arguments = [new.new(use.weight), *texts, *how]
        weight = emit_packed(new.builder_, packing.ROUND, arguments, types)
        return _maker(use, dtype, site, weight)(new)

    return make
