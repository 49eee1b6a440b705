"""Products of a constant and an activation get the operand order of sites: the weight second.

Mamba's ``dt_proj`` is written as weight times activation. Without this pass it is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ladder.ir.site import constant_of
from ladder.passes.infra.base import Pass


@dataclass(frozen=True)
class MoveWeightToRhs(Pass):
    """Move a constant first factor to the second place, if the rank of the other one is known.

    %y = MatMul(%w, %x)  -->  %p = MatMul(Transpose(%x), Transpose(%w)); %y = Transpose(%p)

    The weight is a matrix [N, K], %x is [..., K, M]. If %x is itself a Transpose, the two become
    one.
    """

    def run(self, model: ir.Model) -> None:
        put_weights_second(model)


def put_weights_second(model: ir.Model) -> None:
    """The pass as a function."""
    for graph in model.graphs():
        for node in list(graph):
            x = node.inputs[1] if len(node.inputs) > 1 else None
            if node.op_type == "MatMul" and node.domain == "" and x is not None:
                weight = constant_of(node.inputs[0])
                if weight is not None and len(weight.shape) == 2 and constant_of(x) is None:
                    _turn(graph, node, x)


def _turn(graph: ir.Graph | ir.Function, node: ir.Node, x: ir.Value) -> None:
    weight, out = node.inputs[0], node.outputs[0]
    source = x.producer()
    perm = _perm(source)
    rank = len(perm) if perm else len(x.shape) if x.shape is not None else 0
    if rank < 2:  # a vector, or not known
        return
    swap = [*range(rank - 2), rank - 1, rank - 2]
    made: list[ir.Node] = []

    def transposed(value: ir.Value | None, perm: list[int], name: str) -> ir.Value:
        made.append(ir.node("Transpose", [value], {"perm": perm}, name=f"{out.name}.{name}"))
        made[-1].outputs[0].name = made[-1].name
        made[-1].outputs[0].type = out.type
        return made[-1].outputs[0]

    given = source.inputs[0] if source is not None and perm == swap else None
    left = given if given is not None else transposed(x, swap, "x")
    right = transposed(weight, [1, 0], "weight")
    product = ir.node("MatMul", [left, right], name=f"{out.name}.product")
    product.outputs[0].name, product.outputs[0].type = product.name, out.type
    product.metadata_props.update(node.metadata_props)
    made.append(product)
    back = transposed(product.outputs[0], swap, "turned")
    back.shape = out.shape
    graph.insert_before(node, made)
    out.replace_all_uses_with(back, replace_graph_outputs=True)
    name = out.name
    graph.remove(node, safe=True)
    back.name = name


def _perm(node: ir.Node | None) -> list[int]:
    """The axes of a Transpose, if it has the attribute."""
    said = node.attributes.get("perm") if node is not None and node.op_type == "Transpose" else None
    return list(said.as_ints()) if said is not None else []
