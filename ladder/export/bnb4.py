"""ONNX Runtime's operator for nf4: MatMulBnb4."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ladder.export.emit import Emitter
from ladder.ir.dtype import DType
from ladder.ir.element import NF4

OPERATOR = "MatMulBnb4"
SMALLEST_BLOCK = 16
NF4_TABLE = 1  # the attribute quant_type; 0 is a table of 4-bit floats other than fp4_e2m1


def takes(dtype: DType) -> bool:
    """Whether the operator has this code book, for some group size."""
    return dtype.element.book == NF4


def refuse(dtype: DType, k: int) -> str | None:
    """Why it cannot hold this type at this K, or None. Its groups ignore the ends of rows."""
    if dtype.groups(k) > 1 and k % dtype.group_size(k):
        return f"{OPERATOR} needs groups that divide K = {k}, not {dtype.group}"
    if block_size(dtype, k) < SMALLEST_BLOCK:
        size = dtype.group_size(k) if dtype.groups(k) > 1 else k
        return f"{OPERATOR} needs groups of a multiple of {SMALLEST_BLOCK} weights, not {size}"
    return None


def block_size(dtype: DType, k: int) -> int:
    """The largest power of two that divides the group."""
    size = dtype.group_size(k) if dtype.groups(k) > 1 else k
    return size & -size


def constants(emit: Emitter) -> list[ir.Value]:
    """Bytes [N * K / 2] with the first code of a pair in the high half, and a scale per group."""
    weight = emit.weight
    k = weight.shape[1]
    pairs = weight.code_array().reshape(-1, 2)
    repeat = k // weight.dtype.groups(k) // block_size(weight.dtype, k)
    scale = np.repeat(weight.scale_array(), repeat, axis=1)
    return [
        emit.constant("packed", pairs[:, 0] << 4 | pairs[:, 1]),
        emit.scale("packed.scale", scale.reshape(-1)),
    ]


def attributes(dtype: DType, n: int, k: int) -> dict[str, int]:
    return {"K": k, "N": n, "block_size": block_size(dtype, k), "quant_type": NF4_TABLE}
