"""Products with the weights of chosen experts, which need not be gathered as floats.

    %rows = Add(Mul(%chosen, N), [[0, ..., N - 1]])
    %w = LowBitGather[type](%rows, codes, scale)                  [S, N, K]
    %y = Squeeze(MatMul(%w, Unsqueeze(%x)))                       [S, N]
    -->  %y = ExpertMatMul[type]{rows=N}(%chosen, %x, codes, scale)

Its kernel reads the rows of the chosen experts in their stored form, one selection after the
other; where ``split-experts`` took experts apart, it skips the number -1. An expert must fill whole
tiles; others stay as they are.
"""

from __future__ import annotations

import onnx_ir as ir

from ladder.codegen.layout import TILE
from ladder.ir import dialect
from ladder.ir.shapes import static_shape
from ladder.ir.site import APART_KEY, EXPERTS_KEY


def fuse_experts(model: ir.Model) -> None:
    """Replace the pattern wherever it is found."""
    for node in list(model.graph):
        gathers = node.domain == dialect.DOMAIN and node.op_type == "LowBitGather"
        if gathers and EXPERTS_KEY in node.metadata_props:
            _fuse(model.graph, node)


def _fuse(graph: ir.Graph, gather: ir.Node) -> None:
    product = _reader(gather.outputs[0], "MatMul")
    squeeze = _reader(product.outputs[0], "Squeeze") if product is not None else None
    chosen, shape = _chosen(gather.inputs[0]), static_shape(gather.outputs[0])
    if product is None or squeeze is None or chosen is None or shape is None or shape[1] % TILE:
        return
    column = product.inputs[1].producer() if product.inputs[1] is not None else None
    if product.inputs[0] is not gather.outputs[0] or not _is(column, "Unsqueeze"):
        return
    assert column is not None
    x, out = column.inputs[0], squeeze.outputs[0]
    if x is None or static_shape(x) != (shape[0], shape[2]):
        return
    result = ir.Value(name=f"{out.name}.experts", type=out.type, shape=ir.Shape(shape[:2]))
    operands = [chosen, x, *gather.inputs[1:]]
    rows = [
        ir.AttrInt64("rows", shape[1]),
        ir.AttrInt64("apart", APART_KEY in gather.metadata_props),
    ]
    made = dialect.node("ExpertMatMul", gather.overload, operands, [result], rows)
    made.name = gather.name
    made.metadata_props.update(gather.metadata_props)
    graph.insert_before(squeeze, made)
    out.replace_all_uses_with(result, replace_graph_outputs=True)


def _reader(value: ir.Value, op: str) -> ir.Node | None:
    """The only reader of a value, if it is a plain ``op``."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or not _is(uses[0].node, op):
        return None
    return uses[0].node


def _chosen(rows: ir.Value | None) -> ir.Value | None:
    """The numbers [S, 1] of the chosen experts, from those of their rows."""
    add = rows.producer() if rows is not None else None
    scaled = add.inputs[0].producer() if _is(add, "Add") and add and add.inputs[0] else None
    return scaled.inputs[0] if _is(scaled, "Mul") and scaled is not None else None


def _is(node: ir.Node | None, op: str) -> bool:
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type == op
