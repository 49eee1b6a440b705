"""Integer activations in standard operators, with products as MatMulInteger.

The dialect's lowered operators are functions of standard operators (``ladder.ir.dialect``). They
are inlined here, so the integers in the file are those of the compiled kernels.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from ladder.export.opset import raise_opset
from ladder.ir import dialect
from ladder.ir.dtype import DType
from ladder.ir.names import make_unique, named
from ladder.passes.lower_types import LowerTypes

FORM = "MatMulInteger"
# In this opset Reduce operators take axes as inputs, and Cast reads packed codes.
LEAST_OPSET, OPSET_OF_BITS = 18, {4: 21, 2: 25}


def to_integers(model: ir.Model, activation: str) -> None:
    """Rewrite every low-bit product in place, muxed if the fact Muxing has its site.

    %y = LowBitMatMul[t](%x, %w...)  -->  %s = Div(ReduceMax(Abs(%x)), 127)
                                          %q = Cast(Round(Mul(%x, Reciprocal(%s))))
                                          %y = Mul(Cast(MatMulInteger(%q, %codes)), ...)
    """
    raise_opset(model, max([LEAST_OPSET, *map(_least_opset, _types(model))]))
    before = set(named(model))
    LowerTypes(activation, "dot").run(model)
    opset = model.graph.opset_imports[""]
    for function in model.functions.values():
        if _is_lowered(function):
            function.opset_imports[""] = opset  # the operators mean the same in all of these opsets
    common.InlinePass(_is_lowered)(model)
    for tidy in (
        common.IdentityEliminationPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    ):
        tidy(model)
    make_unique(model, before)


def _types(model: ir.Model) -> set[DType]:
    """The types of the products."""
    return {
        DType.parse(node.overload)
        for node in model.graph.all_nodes()
        if node.domain == dialect.DOMAIN and node.op_type == "LowBitMatMul"
    }


def _least_opset(dtype: DType) -> int:
    return OPSET_OF_BITS.get(dtype.element.onnx.bitwidth, LEAST_OPSET)


def _is_lowered(function: ir.Function) -> bool:
    return dialect.is_lowered(function.domain, function.name)
