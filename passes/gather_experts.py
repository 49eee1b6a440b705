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
    experts, n, _ = (int(d) for d in tensor.shape)  # type: ignore[arg-type]
    name, each = f"{weight.name}.{out.name}", _each(node.inputs[1]) or experts
    constants = [
        # Matrices: vectors of integers are taken for shapes by ONNX's shape inference.
        _constant(name, "first", np.array([[n]], np.int64)),
        _constant(name, "rows", np.arange(n, dtype=np.int64)[None]),
    ]
    scaled = ir.node("Mul", [node.inputs[1], constants[0].outputs[0]], name=f"{name}.scaled")
    rows = ir.node("Add", [scaled.outputs[0], constants[1].outputs[0]], name=f"{name}.selected")
    found = ir.node("Gather", [_table(graph, weight), rows.outputs[0]], {"axis": 0}, name=name)
    for made in (scaled, rows):
        made.outputs[0].name = made.name
        made.outputs[0].type = ir.TensorType(ir.DataType.INT64)
    found.metadata_props.update(node.metadata_props)
    found.metadata_props.update({SITE_KEY: weight.name, EXPERTS_KEY: f"{each} of {experts}"})
    found.outputs[0].type, found.outputs[0].shape = out.type, out.shape
    graph.insert_before(node, [*constants, scaled, rows, found])
    out.replace_all_uses_with(found.outputs[0], replace_graph_outputs=True)
    kept = out.name
    graph.remove(node, safe=True)
    found.outputs[0].name = kept
    _skip_transposes(found.outputs[0])


def _each(chosen: ir.Value | None) -> int | None:
    """How many experts a token chooses: the last size of the choices [tokens, k], made flat."""
    while chosen is not None:
        shape = chosen.shape
        if shape is not None and len(shape) == 2 and isinstance(shape[1], int) and shape[1] > 1:
            return shape[1]
        node = chosen.producer()
        chosen = node.inputs[0] if node is not None and node.op_type in MOVES else None
    return None


def _skip_transposes(value: ir.Value) -> None:
    """Let readers of Transposes that move nothing read ``value`` itself."""
    for use in list(value.uses()):
        out = use.node.outputs[0]
        if _without_transpose(out) is value:
            out.replace_all_uses_with(value, replace_graph_outputs=True)


def _constant(name: str, part: str, values: np.ndarray) -> ir.Node:
    node = ir.node("Constant", [], {"value": ir.tensor(values)}, name=f"{name}.{part}")
    node.outputs[0].name = node.name
    return node


def _table(graph: ir.Graph, weight: ir.Value) -> ir.Value:
    """The initializer [E N, K] of a stack [E, N, K]; its values are read when they are needed."""
    tensor = weight.const_value
    assert tensor is not None and weight.name
    experts, n, k = (int(d) for d in tensor.shape)  # type: ignore[arg-type]
    name = f"{weight.name}.rows"
    if name in graph.initializers:
        return graph.initializers[name]
    shape = ir.Shape([experts * n, k])
    table = ir.Value(name=name, type=weight.type, shape=shape)
    table.const_value = ir.LazyTensor(
        lambda: ir.tensor(tensor.numpy().reshape(-1, k), name=name),
        dtype=tensor.dtype,
        shape=shape,
        name=name,
    )
    graph.register_initializer(table)
    return table
