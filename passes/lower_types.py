"""Lower low-bit products to integer kernels: quantized or tabulated activations, then a GEMM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import dialect, facts, rungs
from ladder.ir.activation import FLOAT, TABLE8, check, overload
from ladder.ir.dtype import DType
from ladder.ir.facts import KernelChoice, Kernels, Machine, Stacked
from ladder.ir.shapes import static_shape
from ladder.ir.site import SCHEME_KEY, SITE_KEY
from ladder.passes.base import Facts, Pass
from ladder.passes.choose_kernel import LUT, SCHEMES, TILE, choose

Made = dict[tuple[int, str, str], tuple[ir.Value, ...]]

PARTS = {
    "QuantizeActivation": ("q", "q_scale", "q_total"),
    "TabulateActivation": ("table",),
    "PrecomputeTable": ("table8", "table8_scale", "table8_total"),
}


@dataclass(frozen=True)
class LowerTypes(Pass):
    """Choose the integer form of every LowBitMatMul and put it there.

    ``activation`` is the numeric mode (``ladder.ir.activation``); ``fp32`` leaves products as
    they are: only weights are rounded. ``scheme`` is ``lut``, ``dot``, ``tile`` or ``auto``: by the
    fact Machine (measured times, else a rule). Every scheme gives the same integers. ``stop`` shows
    the weights' way down to ``planes``, ``pad`` or ``repack`` as operators and their inverses.

        %y = LowBitMatMul[t](%x, %w...)
          -->  %q, %s, %n = QuantizeActivation[k128](%x)      shared by all users of %x
               %t = TabulateActivation[k128](%q)              lut only, shared
               %y = LutGemm[int8:t](%t, %s, %n, %w...)  or  DotGemm[t](%q, %s, %n, %w...)
    """

    activation: str = "int8"
    scheme: str = "auto"
    stop: str = ""
    gives: ClassVar[Facts] = (Kernels,)

    def run(self, model: ir.Model) -> None:
        check(self.activation)
        for what, value, known in (
            ("scheme", self.scheme, SCHEMES),
            ("stop", self.stop, ("", *rungs.DOWN)),
        ):
            if value not in known:
                listed = ", ".join(filter(None, known))
                raise LadderError(f"unknown {what} '{value}'; one of: {listed}")
        machine = facts.get(model, Machine) or Machine()
        stacked = facts.get(model, Stacked) or Stacked()
        before = facts.get(model, Kernels)
        kernels = Kernels(dict(before.choices) if before else {})
        made: Made = {}
        for node in list(model.graph.all_nodes()):
            if node.domain == dialect.DOMAIN and node.op_type == "LowBitMatMul":
                tokens = tokens_of(node.inputs[0])
                dtype = DType.parse(node.overload)
                chosen = choose(dtype, self.activation, tokens, machine, self.scheme)
                site = node.metadata_props.get(SITE_KEY, node.name or "")
                kernels.choices.update(dict.fromkeys(stacked.sites.get(site, (site,)), chosen))
                if chosen.scheme != FLOAT:
                    self._lower(node, dtype, chosen, made)
        facts.put(model, kernels)
        dialect.install(model)

    def _lower(self, node: ir.Node, dtype: DType, chosen: KernelChoice, made: Made) -> None:
        x = node.inputs[0]
        assert x is not None
        mode, block = chosen.activation, dtype.block
        if mode == TABLE8:
            operands = _shared(made, "PrecomputeTable", overload(mode, block), x, node)
        else:
            operands = _shared(made, "QuantizeActivation", overload(mode, block), x, node)
            if chosen.scheme == LUT:
                text = overload(mode, block)
                table = _shared(made, "TabulateActivation", text, operands[0], node)
                operands = (table[0], *operands[1:])
        op, text = (
            ("LutGemm", f"{mode}:{dtype}") if chosen.scheme == LUT else ("DotGemm", str(dtype))
        )
        codes, *rest = node.inputs[1:]
        assert codes is not None
        codes = self._weight_way(codes, dtype, node, made)
        out = ir.Value(
            name=node.outputs[0].name, type=node.outputs[0].type, shape=node.outputs[0].shape
        )
        new = dialect.node(op, text, [*operands, codes, *rest], [out])
        new.name = node.name
        new.metadata_props.update(node.metadata_props)
        if chosen.scheme == TILE:  # the same operator: how it is computed is not its meaning
            new.metadata_props[SCHEME_KEY] = TILE
        _replace_node(node, new)

    def _weight_way(self, codes: ir.Value, dtype: DType, node: ir.Node, made: Made) -> ir.Value:
        """The rungs that are shown between the codes and the product, and the code book."""
        n, k = static_shape(codes) or (0, 0)
        steps = list(rungs.DOWN)
        shown = steps[: steps.index(self.stop) + 1] if self.stop else []
        text = f"{dtype}@{n}x{k}"
        for op in [*(rungs.DOWN[s] for s in shown), *(rungs.UP[s] for s in reversed(shown))]:
            (codes,) = _shared(made, op, text, codes, node)
        if dtype.levels:
            digits = len(dtype.levels.digits)
            (codes,) = _shared(made, rungs.LOOK_UP, str(dtype), codes, node)
            codes.shape = ir.Shape((digits, n, k))
        elif shown:
            codes.shape = ir.Shape((n, k))
        return codes


def tokens_of(x: ir.Value | None) -> int | None:
    """M: the product of all dimensions but the last, where they are known."""
    shape = static_shape(x)
    if shape is None:
        return None
    tokens = 1
    for size in shape[:-1]:
        tokens *= size
    return tokens


def _shared(
    made: Made,
    op: str,
    overload: str,
    x: ir.Value,
    before: ir.Node,
) -> tuple[ir.Value, ...]:
    """The outputs of ``op`` on ``x``: made once, for all its users in the graph."""
    key = (id(x), op, overload)
    if key not in made:
        if op in rungs.RUNGS:  # named by the weight, not by all the steps before
            base = str(dialect.stored_codes(x).name)
        else:
            base = f"{x.name}.{overload}"
        outputs = [ir.Value(name=f"{base}.{part}") for part in PARTS.get(op, (op,))]
        if op in rungs.RUNGS:
            outputs[0].type = ir.TensorType(rungs.result_type(op, overload))
        new = dialect.node(op, overload, [x], outputs)
        new.name = f"{base}.{op}"
        assert before.graph is not None
        before.graph.insert_before(before, new)
        made[key] = tuple(outputs)
    return made[key]


def _replace_node(old: ir.Node, new: ir.Node) -> None:
    graph = old.graph
    assert graph is not None
    graph.insert_before(old, new)
    old.outputs[0].replace_all_uses_with(new.outputs[0], replace_graph_outputs=True)
    graph.remove(old, safe=True)
