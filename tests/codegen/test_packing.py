"""Packed weights: the operands of a node, in the order that its kernel takes them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from kernel_cases import Case, random_case

from ladder.codegen.packing import Weights
from ladder.ir import dialect
from ladder.ir.dtype import DType

TYPES = {
    "int4:g32": ["planes", "row_scale"],
    "uint3:row:bf16:zpf": ["planes", "row_scale", "row_zero"],
    "uint2:g64:e4m3:zp": ["planes", "row_scale", "row_zero", "factor"],
    "ternary:tensor:fp16": ["planes", "row_scale"],
    "nvfp4": ["planes", "type.fp4_e2m1", "row_scale", "factor"],
    "nf4:g64": ["planes", "type.nf4", "row_scale", "factor"],
    "mxfp8": ["planes", "type.fp8_e4m3", "row_scale", "factor"],
}


def node_of(case: Case, op: str) -> ir.Node:
    """A dialect node with the weight of ``case``; its activations do not matter here."""
    arrays = {"w.codes": case.dtype.element.from_unsigned(case.codes), "w.scale": case.scale}
    rest = {"w.zero": case.zero, "w.tensor_scale": case.tensor_scale}
    arrays.update({name: array for name, array in rest.items() if array is not None})
    values = [ir.Value(name=n, const_value=ir.Tensor(a, name=n)) for n, a in arrays.items()]
    before = {"DotGemm": 3, "LowBitMatMul": 1}[op]
    inputs = [*([None] * before), *values]
    return dialect.node(op, str(case.dtype), inputs, [ir.Value(name="y")])


@pytest.mark.parametrize("text", TYPES)
@pytest.mark.parametrize("op", ["DotGemm", "LowBitMatMul"])
def test_operands_are_packed_and_in_order(text: str, op: str) -> None:
    case, weights = random_case(np.random.default_rng(5), DType.parse(text), 1, 70, 100), Weights()
    names = weights.low_bit(node_of(case, op), case.dtype)
    part = "digits" if op == "DotGemm" else "values"
    wanted = [f"{n}.{part}" if n.startswith("type") else f"w.{n}" for n in TYPES[text]]
    assert names == wanted
    for name, expected in zip(names, case.weights(floats=op != "DotGemm"), strict=True):
        np.testing.assert_array_equal(weights.arrays[name], expected, name)


def test_weights_of_one_element_share_its_book() -> None:
    case, weights = random_case(np.random.default_rng(6), DType.parse("nf4:g64"), 1, 70, 100), []
    packed = Weights()
    for op in ("DotGemm", "LowBitMatMul", "DotGemm"):
        weights.append(packed.low_bit(node_of(case, op), case.dtype))
    assert weights[0] == weights[2]
    assert weights[0][0] == weights[1][0]  # one copy of the planes for both kinds of kernel
    assert [n for n in packed.arrays if n.startswith("type.")] == [
        "type.nf4.digits",
        "type.nf4.values",
    ]
