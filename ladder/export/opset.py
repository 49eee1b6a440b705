"""Raise a model's opset with ONNX's converter, and restore what the converter loses."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes.common._c_api_utils import call_onnx_api

from ladder.errors import LadderError
from ladder.ir import dialect


def raise_opset(model: ir.Model, opset: int) -> None:
    """Convert ``model`` in place to ``opset`` of the standard domain, if it is older.

    Weights are kept out of the converter. Nodes and values keep their names. Operators that differ
    in the newer opset (a Softmax over flattened axes, axes that became inputs) are rewritten.
    """
    current = model.graph.opset_imports.get("", opset)
    if current < opset:
        model.graph = _converted(model, current, opset)
    lowest = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    model.ir_version = max(model.ir_version, lowest)


def _converted(model: ir.Model, current: int, opset: int) -> ir.Graph:
    _refuse_functions(model, current, opset)
    try:
        proto = call_onnx_api(lambda m: version_converter.convert_version(m, opset), model)
    except Exception as error:
        raise _impossible(current, opset, _first_line(error)) from error
    graph: ir.Graph = ir.from_proto(proto).graph
    lost = _value_names(model.graph) - _value_names(graph)
    if lost:
        raise _impossible(current, opset, f"the converter drops the value '{min(lost)}'")
    _restore_initializers(model.graph, graph)
    _restore_notes(model.graph, graph)
    return graph


def _impossible(current: int, opset: int, reason: str) -> LadderError:
    return LadderError(
        f"cannot raise the model from opset {current} to {opset}, which standard low-bit "
        f"operators need ({reason}); use --format nbits, which needs no newer opset"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _refuse_functions(model: ir.Model, current: int, opset: int) -> None:
    """Refuse local functions, which the converter ignores; the dialect's work in any opset."""
    for function in model.functions.values():
        if function.domain != dialect.DOMAIN and "" in function.opset_imports:
            reason = f"it has the local function {function.domain}.{function.name}"
            raise _impossible(current, opset, reason)


def _value_names(graph: ir.Graph) -> set[str]:
    return {v.name for node in graph.all_nodes() for v in node.outputs if v.name}


def _restore_initializers(before: ir.Graph, after: ir.Graph) -> None:
    """Turn the inputs that stood for initializers in the converter back into initializers."""
    values = {value.name: value for value in after.inputs}
    del after.inputs[len(before.inputs) :]
    for name, old in before.initializers.items():
        value = after.initializers.get(name) or values.get(name)
        if value is not None:
            value.const_value = old.const_value
            after.register_initializer(value)


def _restore_notes(before: ir.Graph, after: ir.Graph) -> None:
    after.doc_string, after.name = before.doc_string, before.name
    after.metadata_props.update(before.metadata_props)
    known = {v.name: v for node in before.all_nodes() for v in node.outputs if v.name}
    for node in after.all_nodes():
        for value in node.outputs:
            _restore_value(node, value, known.get(value.name or ""))


def _restore_value(node: ir.Node, value: ir.Value, old: ir.Value | None) -> None:
    """Drop inferred shapes: hundreds of them can take more space than quantization saves."""
    if old is None:
        value.shape = value.type = None
        return
    value.shape, value.type = old.shape, old.type
    value.metadata_props.update(old.metadata_props)
    producer = old.producer()
    assert producer is not None
    node.metadata_props.update(producer.metadata_props)
    node.doc_string = producer.doc_string
