"""Replace operators that have no kernel by what they mean in other operators."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx.inliner import inline_selected_functions
from onnx_ir.passes.common import InlinePass

from ladder.passes.bind_shapes import infer_and_fold
from ladder.passes.clean_up import CleanUp
from ladder.passes.infra.base import Pass

# The operators that ONNX defines by a function of others, and that have no kernel.
EXPANDED = frozenset(
    {
        *("BlackmanWindow", "Celu", "CenterCropPad", "HammingWindow", "HannWindow"),
        *("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss", "SwiGLU", "Swish"),
    }
)
IDS = [("", op) for op in sorted(EXPANDED)]
DEPTH = 3  # functions within functions


@dataclass(frozen=True)
class ExpandOperators(Pass):
    """Inline the functions by which ONNX defines operators that have no kernel.

    %y = Swish(%x)  -->  %s = Sigmoid(%x); %y = Mul(%x, %s)
    """

    def run(self, model: ir.Model) -> None:
        opset = model.graph.opset_imports.get("", 0)
        found = [node for node in model.graph.all_nodes() if _is_expanded(node, opset)]
        for number, node in enumerate(found):
            function = _function(node, opset, f"expanded{number}")
            if function is not None:
                model.functions[function.identifier()] = function
                node.overload = function.overload
                node.attributes.clear()  # the function has their values
        if any(node.overload for node in found):
            InlinePass(lambda function: function.name in EXPANDED and not function.domain)(model)
            CleanUp().run(model)  # shapes follow from folded constants
            infer_and_fold(model)


def _is_expanded(node: ir.Node, opset: int) -> bool:
    return not node.domain and node.op_type in EXPANDED and onnx.defs.has(node.op_type, opset)


def _function(node: ir.Node, opset: int, overload: str) -> ir.Function | None:
    """What a node computes, as a function of its inputs; None where ONNX cannot say it."""
    kinds = [None if value is None else value.type for value in node.inputs]
    if any(kind is None for value, kind in zip(node.inputs, kinds, strict=True) if value):
        return None
    proto = _alone(node, opset)
    for _ in range(DEPTH):
        proto = inline_selected_functions(proto, IDS, inline_schema_functions=True)
    if any(inner.op_type == node.op_type for inner in proto.graph.node):
        return None
    graph = ir.from_proto(proto).graph
    return ir.Function("", node.op_type, overload, graph=graph, attributes={})


def _alone(node: ir.Node, opset: int) -> onnx.ModelProto:
    """A model of one node, whose attributes all have a value."""
    schema = onnx.defs.get_schema(node.op_type, opset)
    proto: onnx.NodeProto = ir.to_proto(node)
    given = {attribute.name for attribute in proto.attribute}
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.name:
            proto.attribute.append(attribute.default_value)
    inputs = []
    for place, value in enumerate(node.inputs):
        name = f"input{place}"
        proto.input[place] = name if value is not None else ""
        info = onnx.ValueInfoProto(name=name)
        if value is not None:
            info.type.CopyFrom(ir.to_proto(value).type)
        inputs.append(info)
    outputs = [onnx.ValueInfoProto(name=name) for name in proto.output]
    graph = onnx.helper.make_graph([proto], "alone", inputs, outputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
