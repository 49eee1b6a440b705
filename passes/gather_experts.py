"""Weights of experts, stacked as [E, N, K], become tables of rows, from which the chosen are read.

A trace selects the whole matrix of every chosen expert. As rows of one table the stack is a site:
its type is low-bit, and only the rows of the chosen experts are read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ladder.ir.site import EXPERTS_KEY, SITE_KEY, constant_of
from ladder.passes.infra.base import Pass

MOVES = ("Unsqueeze", "Expand", "Reshape", "Cast", "Clip")


@dataclass(frozen=True)
class GatherExperts(Pass):
    """Read the rows of chosen experts from a table; %chosen is [S, 1], %w is [E, N, K].

    %y = GatherND(%w, %chosen)  -->  %rows = Add(Mul(%chosen, N), [[0, ..., N - 1]])
                                     %y = Gather(%w as [E N, K], %rows)

    A stack that is stored as [E, K, N] is turned, and its products with it:

    %y = MatMul(Unsqueeze(%x, 1), GatherND(%w, %chosen))
                                -->  %y = MatMul(Gather(...), Unsqueeze(%x, 2)), one column
    """

    def run(self, model: ir.Model) -> None:
        for node in list(model.graph):
            weight = _stack(node)
            if weight is not None:
                _replace(model.graph, node, weight)
        common.RemoveUnusedNodesPass()(model)


def _stack(node: ir.Node) -> ir.Value | None:
    """The stacked weights that a node selects from, by one index for each selection."""
    if node.op_type != "GatherND" or node.domain:
        return None
    if node.attributes.get_int("batch_dims", 0) != 0:
        return None
    weight, chosen = _without_transpose(node.inputs[0]), node.inputs[1]
    tensor = constant_of(weight)
    if weight is None or tensor is None or not weight.is_initializer():
        return None
    source = chosen.producer() if chosen is not None else None
    one = source is not None and source.op_type == "Unsqueeze"
    return weight if one and len(tensor.shape) == 3 and _is_float(tensor) else None


def _is_float(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype == ir.DataType.FLOAT


def _without_transpose(value: ir.Value | None) -> ir.Value | None:
    """What a Transpose that moves nothing reads."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Transpose":
        return value
    perm = node.attributes.get("perm")
    same = perm is not None and list(perm.as_ints()) == sorted(perm.as_ints())
    return node.inputs[0] if same else value


def _replace(graph: ir.Graph, node: ir.Node, weight: ir.Value) -> None:
    out, tensor = node.outputs[0], weight.const_value
    assert tensor is not None and weight.name
    _skip_transposes(graph, out)
    product = _row_product(out)
    experts, *sizes = (int(d) for d in tensor.shape)  # type: ignore[arg-type]
    n, k = sizes if product is None else sizes[::-1]
    name, each = f"{weight.name}.{out.name}", _each(node.inputs[1]) or experts
    constants = [
        # Matrices: vectors of integers are taken for shapes by ONNX's shape inference.
        _constant(name, "first", np.array([[n]], np.int64)),
        _constant(name, "rows", np.arange(n, dtype=np.int64)[None]),
    ]
    scaled = ir.node("Mul", [node.inputs[1], constants[0].outputs[0]], name=f"{name}.scaled")
    rows = ir.node("Add", [scaled.outputs[0], constants[1].outputs[0]], name=f"{name}.selected")
    found = ir.node(
        "Gather",
        [_table(graph, weight, product is not None), rows.outputs[0]],
        {"axis": 0},
        name=name,
    )
    for made in (scaled, rows):
        made.outputs[0].name = made.name
        made.outputs[0].type = ir.TensorType(ir.DataType.INT64)
    found.metadata_props.update(node.metadata_props)
    found.metadata_props.update({SITE_KEY: weight.name, EXPERTS_KEY: f"{each} of {experts}"})
    found.outputs[0].type = out.type
    if out.shape is not None:
        found.outputs[0].shape = ir.Shape([out.shape[0], n, k])
    graph.insert_before(node, [*constants, scaled, rows, found])
    out.replace_all_uses_with(found.outputs[0], replace_graph_outputs=True)
    kept = out.name
    graph.remove(node, safe=True)
    found.outputs[0].name = kept
    if product is not None:
        _turn(graph, product, found.outputs[0])


def _row_product(weights: ir.Value) -> ir.Node | None:
    """The product of rows [S, 1, K] and ``weights`` [S, K, N], if it is all that reads them."""
    uses = list(weights.uses())
    if len(uses) != 1 or weights.is_graph_output() or uses[0].idx != 1:
        return None
    product = uses[0].node
    row = product.inputs[0].producer() if product.inputs[0] is not None else None
    readers = [use.node for use in product.outputs[0].uses()]
    alone = len(readers) == 1 and not product.outputs[0].is_graph_output()
    moved = row is not None and _moves(row, "Unsqueeze") and alone and _moves(readers[0], "Squeeze")
    return product if moved and product.op_type == "MatMul" and not product.domain else None


def _moves(node: ir.Node, op: str) -> bool:
    """Whether a node adds or removes axis 1."""
    axes = constant_of(node.inputs[1]) if node.op_type == op and len(node.inputs) > 1 else None
    return axes is not None and [int(axis) for axis in axes.numpy().reshape(-1)] == [1]


def _turn(graph: ir.Graph, product: ir.Node, weights: ir.Value) -> None:
    """Multiply columns: ``weights`` [S, N, K] by [S, K, 1]."""
    row, (squeeze,) = product.inputs[0].producer(), [u.node for u in product.outputs[0].uses()]  # type: ignore[union-attr]
    assert row is not None and weights.name
    name, x, out = weights.name, row.inputs[0], squeeze.outputs[0]
    axis = _constant(name, "axis", np.array([2], np.int64))
    column = ir.node("Unsqueeze", [x, axis.outputs[0]], name=f"{name}.column")
    turned = ir.node("MatMul", [weights, column.outputs[0]], name=f"{name}.product")
    turned.metadata_props.update(product.metadata_props)
    flat = ir.node("Squeeze", [turned.outputs[0], axis.outputs[0]], name=f"{name}.flat")
    for made in (column, turned, flat):
        made.outputs[0].name, made.outputs[0].type = made.name, out.type
    if weights.shape is not None:
        s, n, k = weights.shape
        shapes = (ir.Shape([s, k, 1]), ir.Shape([s, n, 1]), ir.Shape([s, n]))
        for made, shape in zip((column, turned, flat), shapes, strict=True):
            made.outputs[0].shape = shape
    graph.insert_before(squeeze, [axis, column, turned, flat])
    out.replace_all_uses_with(flat.outputs[0], replace_graph_outputs=True)
    kept = out.name
    graph.remove(squeeze, safe=True)
    flat.outputs[0].name = kept


def _each(chosen: ir.Value | None) -> int | None:
    """How many experts a token chooses: the last size of the choices [tokens, k], made flat."""
    while chosen is not None:
        shape, node = chosen.shape, chosen.producer()
        size = shape[1] if shape is not None and len(shape) == 2 else None
        best = node is not None and node.op_type == "TopK"
        if isinstance(size, int) and (size > 1 or best):
            return size
        chosen = node.inputs[0] if node is not None and node.op_type in MOVES else None
    return None


def _skip_transposes(graph: ir.Graph, value: ir.Value) -> None:
    """Let readers of Transposes that move nothing read ``value`` itself; the Transposes go."""
    for use in list(value.uses()):
        out = use.node.outputs[0]
        if _without_transpose(out) is value:
            out.replace_all_uses_with(value, replace_graph_outputs=True)
            graph.remove(use.node, safe=True)


def _constant(name: str, part: str, values: np.ndarray) -> ir.Node:
    node = ir.node("Constant", [], {"value": ir.tensor(values)}, name=f"{name}.{part}")
    node.outputs[0].name = node.name
    return node


def _table(graph: ir.Graph, weight: ir.Value, turned: bool) -> ir.Value:
    """The initializer [E N, K] of a stack [E, N, K], or, ``turned``, of a stack [E, K, N].

    Its values are read when they are needed.
    """
    tensor = weight.const_value
    assert tensor is not None and weight.name
    experts, *sizes = (int(d) for d in tensor.shape)  # type: ignore[arg-type]
    n, k = sizes[::-1] if turned else sizes
    name = f"{weight.name}.{'columns' if turned else 'rows'}"
    if name in graph.initializers:
        return graph.initializers[name]

    def values() -> ir.TensorProtocol:
        stack = tensor.numpy()
        stack = stack.swapaxes(1, 2) if turned else stack
        return ir.tensor(np.ascontiguousarray(stack.reshape(-1, k)), name=name)

    shape = ir.Shape([experts * n, k])
    table = ir.Value(name=name, type=weight.type, shape=shape)
    table.const_value = ir.LazyTensor(values, dtype=tensor.dtype, shape=shape, name=name)
    graph.register_initializer(table)
    return table
