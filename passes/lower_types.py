"""Lower low-bit products to integer kernels: quantized or tabulated activations, then a GEMM."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import dialect
from ladder.ir.activation import FLOAT, TABLE8, check, overload
from ladder.ir.dtype import DType
from ladder.ir.shapes import static_shape
from ladder.passes.base import Pass

PARTS = {
    "QuantizeActivation": ("q", "q_scale", "q_total"),
    "TabulateActivation": ("table",),
    "PrecomputeTable": ("table8", "table8_scale", "table8_total"),
}


@dataclass(frozen=True)
class LowerTypes(Pass):
    """Choose the integer form of every LowBitMatMul.

    ``activation`` is the numeric mode: ``int8``, ``table8``, or ``fp32`` (products stay as they
    are: only weights are rounded); ``scheme`` says how mode int8
    is computed: ``lut`` by exact tables, ``dot`` by integer dot products, or ``auto``: ``lut``
    below ``dot_from`` tokens, ``dot`` from there on. Every scheme gives the same integers.

        %y = LowBitMatMul[t](%x, %w...)
          -->  %q, %s, %n = QuantizeActivation[k128](%x)      shared by all users of %x
               %t = TabulateActivation[k128](%q)              lut only, shared
               %y = LutGemm[int8:t](%t, %s, %n, %w...)  or  DotGemm[t](%q, %s, %n, %w...)
    """

    activation: str = "int8"
    scheme: str = "auto"
    dot_from: int = 4

    def run(self, model: ir.Model) -> None:
        check(self.activation)
        if self.scheme not in ("auto", "lut", "dot"):
            raise LadderError(f"unknown scheme '{self.scheme}'; one of: auto, lut, dot")
        if self.activation == FLOAT:
            return
        made: dict[tuple[int, str, str], tuple[ir.Value, ...]] = {}
        for node in list(model.graph.all_nodes()):
            if node.domain == dialect.DOMAIN and node.op_type == "LowBitMatMul":
                self._lower(node, made)
        dialect.install(model)

    def _lower(self, node: ir.Node, made: dict[tuple[int, str, str], tuple[ir.Value, ...]]) -> None:
        dtype, x = DType.parse(node.overload), node.inputs[0]
        assert x is not None
        block = f"k{dtype.block}"
        if self.activation == "table8":
            activation = _shared(made, "PrecomputeTable", block, x, node)
            op, overload = "LutGemm", f"table8:{dtype}"
        else:
            quantized = _shared(made, "QuantizeActivation", block, x, node)
            op, overload, activation = "DotGemm", str(dtype), quantized
            if self._scheme(x) == "lut":
                table = _shared(made, "TabulateActivation", block, quantized[0], node)
                op, overload = "LutGemm", f"int8:{dtype}"
                activation = (table[0], *quantized[1:])
        out = ir.Value(
            name=node.outputs[0].name, type=node.outputs[0].type, shape=node.outputs[0].shape
        )
        new = dialect.node(op, overload, [*activation, *node.inputs[1:]], [out])
        new.name = node.name
        new.metadata_props.update(node.metadata_props)
        _replace_node(node, new)

    def _scheme(self, x: ir.Value) -> str:
        if self.scheme != "auto":
            return self.scheme
        tokens = tokens_of(x)
        return "lut" if tokens is not None and tokens < self.dot_from else "dot"


def tokens_of(x: ir.Value) -> int | None:
    """M: the product of all dimensions but the last, where they are known."""
    shape = static_shape(x)
    if shape is None:
        return None
    tokens = 1
    for size in shape[:-1]:
        tokens *= size
    return tokens


def _shared(
    made: dict[tuple[int, str, str], tuple[ir.Value, ...]],
    op: str,
    overload: str,
    x: ir.Value,
    before: ir.Node,
) -> tuple[ir.Value, ...]:
    """The outputs of ``op`` on ``x``: made once, for all its users in the graph."""
    key = (id(x), op, overload)
    if key not in made:
        base = f"{x.name}.{overload}"
        outputs = [ir.Value(name=f"{base}.{part}") for part in PARTS[op]]
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
