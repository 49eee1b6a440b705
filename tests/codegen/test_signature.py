"""Operands of kernels as data: their order, and the packed arrays."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import random_case

from ladder.codegen.kernels.float_gemm import float_gemm
from ladder.codegen.kernels.gather import gather
from ladder.codegen.kernels.library import KERNELS, kernel
from ladder.codegen.kernels.signature import operands, present, quantize_operands, weight_operands
from ladder.codegen.layout import Packing, blocks_of
from ladder.codegen.mux_layout import AuxLayout
from ladder.codegen.packing import StoredWeight
from ladder.ir.dtype import DType
from ladder.ir.mux import Mux

ORDERS = {
    ("lut_gemm", "int4:g32", False): "table a_scale a_total planes w_scale out",
    (
        "lut_gemm",
        "uint2:row:zp",
        True,
    ): "table a_scale a_total planes w_scale zero starts numbers out",
    ("dot_gemm", "uint2:g64:e4m3:zp", False): "q a_scale a_total planes w_scale zero factor out",
    ("dot_gemm", "ternary:row", True): "q a_scale a_total planes w_scale starts numbers out",
    ("tile_gemm", "nvfp4", False): "q a_scale a_total planes digits w_scale factor out",
    ("float_gemm", "nf4:g64", False): "x planes values w_scale factor out",
    ("expert_gemm", "int4:g32:bf16", False): "ids order x planes w_scale out",
    ("gather", "uint3:row:bf16:zpf", False): "ids planes w_scale zero out",
}
TYPES = [
    "int4:g32",
    "uint3:row:bf16:zpf",
    "uint2:g64:e4m3:zp",
    "ternary:g48:fp16",
    "nvfp4",
    "mxfp8",
]


@pytest.mark.parametrize(("op", "text", "mux"), ORDERS)
def test_order(op: str, text: str, mux: bool) -> None:
    packing = Packing.of(DType.parse(text), mux=mux)
    wanted = ORDERS[op, text, mux].split()
    assert [o.name for o in present(operands(op, packing, "int8"))] == wanted


@pytest.mark.parametrize(("op", "text", "mux"), ORDERS)
def test_kernels_have_them(op: str, text: str, mux: bool) -> None:
    packing = Packing.of(DType.parse(text), mux=mux)
    if op == "gather":
        made = [gather(packing, 100)]
    elif op in ("float_gemm", "expert_gemm"):
        made = [float_gemm(packing, experts=op == "expert_gemm")]
    else:
        made = [kernel(op, packing, "int8", f) for f, known in KERNELS.items() if op in known]
    for func in made:
        assert [p.name for p in func.params] == ORDERS[op, text, mux].split()
    assert made


def test_order_of_an_activation() -> None:
    every = quantize_operands("int8:static", operand_axes=1, muxed=True)
    order = "x operand static small outliers out scale total"
    assert [o.name for o in present(every)] == order.split()
    assert [o.name for o in every if o.written] == ["out", "scale", "total"]
    plain = quantize_operands("int8", tables=True)
    assert [o.name for o in present(plain)] == ["x", "out", "scale", "total"]
    assert plain[-3].sized(M=2, C=3) == (2, 3, 2, 64)


@pytest.mark.parametrize("op", ["dot_gemm", "float_gemm"])
@pytest.mark.parametrize("text", TYPES)
def test_packed_arrays_have_their_shapes_and_types(text: str, op: str) -> None:
    dtype, (n, k) = DType.parse(text), (70, 150)
    case, packing = random_case(np.random.default_rng(7), dtype, 1, n, k), Packing.of(dtype)
    parts = [dtype.element.from_unsigned(case.codes), case.scale, case.zero, case.tensor_scale]
    stored = StoredWeight(dtype, [part for part in parts if part is not None])
    tiles, lines = packing.plane_shape(n, k)[:2]
    groups = blocks_of(k, packing.block) if packing.grouped else 1
    for operand in present(weight_operands(op, packing)):
        array = stored.operand(operand.name)
        assert array.shape == operand.sized(NT=tiles, P=lines, S=groups), operand.name
        assert array.dtype == operand.dtype, operand.name


def test_a_muxed_weight_says_where_its_outliers_are() -> None:
    dtype, (n, k) = DType.parse("int4:g32"), (70, 150)
    case = random_case(np.random.default_rng(8), dtype, 1, n, k)
    layout = AuxLayout.of(np.array([3, 40, 41]), k, dtype.block, Mux.parse("digits3x2"))
    codes = dtype.element.from_unsigned(case.codes)
    stored, packing = StoredWeight(dtype, [codes, case.scale], layout), Packing.of(dtype, mux=True)
    named = {o.name: o for o in present(weight_operands("dot_gemm", packing))}
    for name in ("starts", "numbers"):
        assert stored.operand(name).shape == named[name].sized(B=blocks_of(k, dtype.block))
    assert stored.operand("planes").shape[1] == layout.chunks
