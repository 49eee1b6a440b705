"""Round every planned weight to its type and replace the site's node by a low-bit operator."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import dialect, facts
from ladder.ir.codes import Codes
from ladder.ir.dtype import INTEGER_ZERO, DType
from ladder.ir.facts import BitPlan, Hessians, PreRounded, Rounding, StoredCodes
from ladder.ir.names import add_initializer
from ladder.ir.site import (
    BIAS_KEY,
    KIND_KEY,
    OP_KEY,
    SITE_KEY,
    WEIGHT_INPUT,
    Site,
    find_sites,
)
from ladder.ir.unused import drop_unused
from ladder.passes.infra.base import Facts, Pass
from ladder.passes.rounding.hessian import hessian_of
from ladder.passes.rounding.matrix import Rounded
from ladder.passes.rounding.methods import UNCALIBRATED, find_method
from ladder.passes.rounding.one_weight import Outcome, round_by
from ladder.passes.rounding.pre_rounded import load_outcome
from ladder.passes.rounding.threads import one_blas_thread
from ladder.support.progress import track

THREADS = 2
LOST = 0.9  # relative error of a weight, which is below 0.7 in the type of fewest bits
HIGH_RUNG = {"Gather": "LowBitGather", "Conv": "LowBitConv"}  # others: LowBitMatMul
KEPT = "kept"  # in reports, where others name how a weight was rounded
WITH_BIAS = ("Gemm", "Conv")  # as their third operand


@dataclass(frozen=True)
class RoundWeights(Pass):
    """Round by a method of ``rounding.methods``, where each is described.

    Calibrated methods need the fact Hessians; those that round the whole model in order also need
    the fact PreRounded, the weights that were rounded before. Where the fact StoredCodes has a
    weight in its planned type, the codes of the checkpoint are kept.

    %y = MatMul(%x, %w)  -->  %y = ladder.LowBitMatMul[type](%x, %w.codes, %w.scale)
    %y = Gather(%w, %i)  -->  %y = ladder.LowBitGather[type](%i, %w.codes, %w.scale)
    %y = Conv(%x, %w, %b)  -->  %p = ladder.LowBitConv[type](%x, %w.codes, %w.scale)
                                %y = Add(%p, %b as [O, 1, 1])

    In a model of another float type, the low-bit operator is between two Casts.
    """

    method: str = "mse"
    needs: ClassVar[Facts] = (BitPlan,)
    gives: ClassVar[Facts] = (Rounding,)

    def run(self, model: ir.Model) -> None:
        needs = find_method(self.method).needs
        plan, hessians = facts.get(model, BitPlan), facts.get(model, Hessians)
        assert plan is not None
        if needs.model and facts.get(model, PreRounded) is None:
            raise LadderError(
                f"rounding '{self.method}' works through the whole model in order, which a "
                "single pass cannot do; use 'ladder compile' or 'quantize' with --calib"
            )
        if needs.hessians and hessians is None:
            raise LadderError(
                f"rounding '{self.method}' needs Hessians of the sites' inputs, which a "
                "pass cannot collect; use 'ladder compile', 'plan' or 'quantize' with --calib"
            )
        sites = [site for site in find_sites(model)[0] if site.name in plan.choices]
        shared = _by_weight(sites, plan)
        weights = [site.node.inputs[WEIGHT_INPUT[site.node.op_type]] for site in sites]
        done = facts.get(model, PreRounded) or PreRounded()
        stored = facts.get(model, StoredCodes) or StoredCodes()
        used = hessians if needs.hessians and hessians else Hessians()
        calibrated = {used.text: used.tokens} if used.tokens else {}
        rows: dict[str, _Row] = {}
        with ThreadPoolExecutor(THREADS) as pool, one_blas_thread():
            jobs = [
                (key, users, pool.submit(_round, users, key[1], self.method, used, done, stored))
                for key, users in shared
            ]
            for (_, dtype), users, job in track(jobs, "round the weights"):
                outcome = job.result()
                _replace(model, users, dtype, outcome.rounded)
                rows |= {site.name: _row(site, outcome, used, dtype) for site in users}
        dialect.install(model)
        drop_unused(weights)
        facts.put(model, _fact(rows, calibrated, done.note))
        for kind in (
            Hessians,
            PreRounded,
            StoredCodes,
        ):  # files of this machine, useless in a saved model
            facts.drop(model, kind)


def _by_weight(sites: list[Site], plan: BitPlan) -> list[tuple[tuple[str, DType], list[Site]]]:
    """Sites that share a weight, orientation and type share one rounded copy."""
    groups: dict[tuple[int, bool, DType], list[Site]] = {}
    for site in sites:
        key = (id(site.weight), site.transposed, plan.choices[site.name].type)
        groups.setdefault(key, []).append(site)
    return [((users[0].name, key[2]), users) for key, users in groups.items()]


def _round(
    users: list[Site],
    dtype: DType,
    method: str,
    known: Hessians,
    done: PreRounded,
    stored: StoredCodes,
) -> Outcome:
    site = users[0]
    kept = _kept(site, dtype, stored)
    if kept is not None:
        return kept
    if site.name in done.files:
        return load_outcome(Path(done.files[site.name]))
    weight = site.array()
    if not np.isfinite(weight).all():
        raise LadderError(
            f"site {site.name}: its weight has NaN or infinity; "
            "check the model file, or keep the site with --keep"
        )
    return round_by(method, weight, dtype, hessian_of(users, known))


def _kept(site: Site, dtype: DType, stored: StoredCodes) -> Outcome | None:
    """The checkpoint's codes, if they are of this type and still mean the weight."""
    if stored.types.get(site.name) != dtype:
        return None
    found = Codes.load(Path(stored.files[site.name]))
    if not np.array_equal(found.values(), site.array()):
        return None
    rounded = Rounded(found.codes, found.scale, found.zero, 0.0, found.tensor_scale)
    return Outcome(rounded, KEPT, {})


@dataclass(frozen=True)
class _Row:
    """What the fact Rounding says about one site."""

    method: str
    error: float
    output_errors: dict[str, float]
    note: str


def _row(site: Site, outcome: Outcome, known: Hessians, dtype: DType) -> _Row:
    note, error = outcome.rounded.note, outcome.rounded.relative_error
    if not error <= LOST:
        note = (
            f"the weight is lost (its error is {error:.0%}): its values are out of the reach of "
            f"{dtype}; take a wider scale, such as bf16 or fp32, or --keep"
        )
    if outcome.method == UNCALIBRATED and site.name in known.missing:
        note = f"{outcome.method}: {known.missing[site.name]}"
    return _Row(outcome.method, outcome.rounded.relative_error, outcome.output_errors, note)


def _fact(rows: dict[str, _Row], calibrated: dict[str, int], whole: str) -> Rounding:
    return Rounding(
        {name: row.method for name, row in rows.items()},
        {name: row.error for name, row in rows.items()},
        {name: row.output_errors for name, row in rows.items() if row.output_errors},
        {name: row.note for name, row in rows.items() if row.note},
        calibrated,
        whole,
    )


def _replace(model: ir.Model, users: list[Site], dtype: DType, rounded: Rounded) -> None:
    """Replace the users' nodes by dialect nodes over one set of initializers."""
    by_graph: dict[int, list[ir.Value]] = {}
    for site in users:
        graph = site.node.graph
        assert isinstance(graph, ir.Graph)
        if id(graph) not in by_graph:
            by_graph[id(graph)] = _initializers(graph, site.name, dtype, rounded)
        _swap_node(graph, site, dtype, by_graph[id(graph)])


def _initializers(graph: ir.Graph, name: str, dtype: DType, rounded: Rounded) -> list[ir.Value]:
    """The operands of a weight, in the dialect's order."""
    parts = {"codes": (rounded.codes, dtype.element.onnx), "scale": (rounded.scale, None)}
    if rounded.zero is not None:
        integer = dtype.zero == INTEGER_ZERO
        parts["zero"] = (rounded.zero, dtype.element.onnx if integer else None)
    if rounded.tensor_scale is not None:
        parts["tensor_scale"] = (np.array(rounded.tensor_scale, np.float32), None)
    return [
        add_initializer(graph, f"{name}.{part}", array, kind)
        for part, (array, kind) in parts.items()
    ]


def _swap_node(graph: ir.Graph, site: Site, dtype: DType, weight: list[ir.Value]) -> None:
    old = site.node
    first = old.inputs[1] if old.op_type == "Gather" else old.inputs[0]
    out = ir.Value(name=old.outputs[0].name, type=old.outputs[0].type, shape=old.outputs[0].shape)
    op = HIGH_RUNG.get(old.op_type, "LowBitMatMul")
    attributes = site.window.attributes() if site.window else []
    kind, table = site.kind, old.op_type == "Gather"
    assert first is not None
    if kind != ir.DataType.FLOAT and not table:
        first = _cast(graph, old, first)
    new = dialect.node(op, str(dtype), [first, *weight], [out], attributes)
    new.name, new.doc_string = old.name, old.doc_string
    new.metadata_props.update({**old.metadata_props, SITE_KEY: site.name})
    if old.op_type == "Gemm":
        new.metadata_props[OP_KEY] = old.op_type
    before, bias = _bias(site)
    nodes, result = [*before, new], out
    if kind != ir.DataType.FLOAT:
        new.metadata_props[KIND_KEY] = kind.name
        nodes.append(_cast_back(out, kind))
        result = out = nodes[-1].outputs[0]
    if bias is not None:
        result = ir.Value(name=out.name, type=out.type, shape=out.shape)
        out.name = f"{out.name}.product"
        add = ir.Node("", "Add", [out, bias], outputs=[result], name=_part(old.name, "bias"))
        add.metadata_props[BIAS_KEY] = site.name
        nodes.append(add)
    graph.insert_before(old, nodes)
    old.outputs[0].replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(old, safe=True)


def _cast(graph: ir.Graph, before: ir.Node, x: ir.Value) -> ir.Value:
    """x in float32; the products that read x share it."""
    for user, _ in x.uses():
        if KIND_KEY in user.metadata_props and user.op_type == "Cast" and user.graph is graph:
            return user.outputs[0]
    name = f"{x.name}.float32"
    made = ir.node("Cast", [x], {"to": int(ir.DataType.FLOAT)}, name=name)
    made.metadata_props[KIND_KEY] = ir.DataType.FLOAT.name
    made.outputs[0].name, made.outputs[0].shape = name, x.shape
    made.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph.insert_before(before, made)
    return made.outputs[0]


def _cast_back(out: ir.Value, kind: ir.DataType) -> ir.Node:
    """The result of a product in the model's type, under the product's name."""
    made = ir.node("Cast", [out], {"to": int(kind)}, name=f"{out.name}.{kind.name.lower()}")
    made.metadata_props[KIND_KEY] = kind.name
    result = made.outputs[0]
    result.name, result.shape, result.type = out.name, out.shape, ir.TensorType(kind)
    out.name, out.type = f"{out.name}.float32", ir.TensorType(ir.DataType.FLOAT)
    return made


def _part(name: str | None, part: str) -> str | None:
    """The name of a node that belongs to another; those of nodes without a name have none."""
    return f"{name}.{part}" if name else None


def _bias(site: Site) -> tuple[list[ir.Node], ir.Value | None]:
    """The value that is added to the product, and the nodes that make it."""
    node, window = site.node, site.window
    bias = node.inputs[2] if node.op_type in WITH_BIAS and len(node.inputs) > 2 else None
    if bias is None or window is None:
        return [], bias
    # [O] as [O, 1, ...]: along the channels of an output [B, O, ...].
    name, shape = node.outputs[0].name, [site.n] + [1] * len(window.kernel)
    tensor = ir.tensor(shape, dtype=ir.DataType.INT64)
    constant = ir.node("Constant", [], {"value": tensor}, name=f"{name}.bias_shape")
    reshape = ir.node("Reshape", [bias, constant.outputs[0]], name=f"{name}.bias_column")
    constant.outputs[0].name = constant.name
    out = reshape.outputs[0]
    out.name, out.type, out.shape = reshape.name, bias.type, ir.Shape(shape)
    return [constant, reshape], out
