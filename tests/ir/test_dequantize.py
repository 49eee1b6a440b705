"""Dequantized weights, compared with the dialect's LowBitGather."""

from __future__ import annotations

import numpy as np
import pytest
from high_rung import TENSOR_SCALE, Operands, high_rung
from small_graphs import meaning

from ladder.ir.dequantize import dequantized

TYPES = ("int4:g32", "uint4:g32:zp", "uint3:g32:fp16:zpf", "int1:row", "ternary:tensor", "nf4:g20")
SCALED = ("fp4_e2m1:g16:e4m3", "fp4_e2m1:g32:e8m0", "fp8_e4m3:row", "int2:g32:bf16", "int8:tensor")


@pytest.mark.parametrize("text", [*TYPES, *SCALED])
def test_it_is_what_the_dialect_means(text: str) -> None:
    operands = Operands.of(text, 24, 50)
    scale = TENSOR_SCALE if operands.dtype.tensor_scale else None
    zero = operands.zero
    found = dequantized(operands.dtype, operands.codes, operands.scale, zero, scale)
    assert found.dtype == np.float32
    (wanted,) = meaning(high_rung("Gather", operands, 25), {"x": np.arange(24)})
    assert np.array_equal(found, wanted)
