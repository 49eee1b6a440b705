"""Integer activations in standard operators, with products as MatMulInteger.

The dialect's lowered operators are functions of standard operators (``ladder.ir.dialect``). They
are inlined here, so the integers in the file are those of the compiled kernels.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ladder.export.dynamic import MIDDLE, SAFE_BITS
from ladder.export.opset import raise_opset
from ladder.ir import dialect
from ladder.ir.dtype import DType
from ladder.ir.names import Named, add_initializer, make_unique, named
from ladder.passes.lower_types import LowerTypes

FORM = "MatMulInteger"
INT8 = ir.DataType.INT8
# In this opset Reduce operators take axes as inputs, and Cast reads packed codes.
LEAST_OPSET, OPSET_OF_BITS = 18, {4: 21, 2: 25}


def to_integers(model: ir.Model, activation: str, sites: tuple[str, ...] = ()) -> None:
    """Rewrite low-bit products in place, muxed if the fact Muxing has their site.

    All of them, or only those of ``sites`` if that names some.

    %y = LowBitMatMul[t](%x, %w...)  -->  %s = Div(ReduceMax(Abs(%x)), 127)
                                          %q = Cast(Round(Mul(%x, Reciprocal(%s))))
                                          %y = Mul(Cast(MatMulInteger(%q, %codes)), ...)
    """
    raise_opset(model, max([LEAST_OPSET, *map(_least_opset, _types(model))]))
    before, wide = set(named(model)), any(map(_fills_a_byte, _types(model)))
    LowerTypes(activation, "dot", sites=sites).run(model)
    opset = model.graph.opset_imports[""]
    for function in model.functions.values():
        if _is_lowered(function):
            function.opset_imports[""] = opset  # the operators mean the same in all of these opsets
    common.InlinePass(_is_lowered)(model)
    _as_unsigned(model, before, wide)
    for tidy in (
        common.IdentityEliminationPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    ):
        tidy(model)
    make_unique(model, before)


def _as_unsigned(model: ir.Model, before: Collection[Named], weights: bool) -> None:
    """Multiply bytes with the zero point 128 in place of int8: ONNX Runtime is faster with them.

    %y = MatMulInteger(%q, %w)  -->  %u = Cast<UINT8>(Cast<FLOAT>(%q) + 128)
                                     %y = MatMulInteger(%u, %w, 128)

    With ``weights``, signed weights too: codes of 8 bits would overflow sums in 16 bits, which
    ONNX Runtime has on x86 CPUs without VNNI.
    """
    made: dict[int, tuple[ir.Value, ir.Value]] = {}
    for node in list(model.graph.all_nodes()):
        if node.op_type != "MatMulInteger" or node in before:
            continue
        q, w = node.inputs
        assert q is not None and w is not None and isinstance(node.graph, ir.Graph)
        for value in (q, w) if weights and _is_signed(w) else (q,):
            if id(value) not in made:
                made[id(value)] = _unsigned(node.graph, value, node)
        u, zero = made[id(q)]
        values, *middle = made.get(id(w), (w,))
        _replace_inputs(node, [u, values, zero, *middle])


def _is_signed(w: ir.Value) -> bool:
    """Whether a weight, which is a Cast and what moves its elements, is int8."""
    made = w.producer()
    while made is not None and made.op_type != "Cast":
        assert made.inputs[0] is not None
        w, made = made.inputs[0], made.inputs[0].producer()
    return w.dtype == INT8 if made is None else made.attributes["to"].as_int() == INT8


def _unsigned(graph: ir.Graph, q: ir.Value, before: ir.Node) -> tuple[ir.Value, ir.Value]:
    middle = add_initializer(graph, f"{q.name}.middle", np.array(MIDDLE, np.float32))
    zero = add_initializer(graph, f"{q.name}.zero", np.array(MIDDLE, np.uint8))
    number = ir.node("Cast", [q], {"to": int(ir.DataType.FLOAT)})
    moved = ir.node("Add", [number.outputs[0], middle])
    byte = ir.node("Cast", [moved.outputs[0]], {"to": int(ir.DataType.UINT8)})
    for node, part in ((number, "float"), (moved, "moved"), (byte, "unsigned")):
        node.name = node.outputs[0].name = f"{q.name}.{part}"
    graph.insert_before(before, [number, moved, byte])
    return byte.outputs[0], zero


def _replace_inputs(node: ir.Node, inputs: list[ir.Value]) -> None:
    made = ir.node("MatMulInteger", inputs, name=node.name)
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    ir.convenience.replace_nodes_and_values(graph, node, [node], [made], node.outputs, made.outputs)


def _types(model: ir.Model) -> set[DType]:
    """The types of the products."""
    return {
        DType.parse(node.overload)
        for node in model.graph.all_nodes()
        if node.domain == dialect.DOMAIN and node.op_type == "LowBitMatMul"
    }


def _fills_a_byte(dtype: DType) -> bool:
    """Whether signed weights take all bits of a byte; digits of code books do."""
    return dtype.element.signed and (dtype.bits > SAFE_BITS or dtype.levels is not None)


def _least_opset(dtype: DType) -> int:
    return OPSET_OF_BITS.get(dtype.element.onnx.bitwidth, LEAST_OPSET)


def _is_lowered(function: ir.Function) -> bool:
    return dialect.is_lowered(function.domain, function.name)
