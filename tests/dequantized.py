"""The weights that codes and scales mean, by the definition of their type."""

from __future__ import annotations

import numpy as np

from ladder.ir import numerics
from ladder.ir.dtype import DType
from ladder.passes.rounding.matrix import Rounded


def per_weight(rounded: Rounded, dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of every weight, as used by kernels: float32 [N, K] each."""
    n, k = rounded.codes.shape
    assert rounded.scale.shape == dtype.scale_shape(n, k)
    factor = np.float32(1) if rounded.tensor_scale is None else rounded.tensor_scale
    scale = numerics.stored_scale(rounded.scale, factor)
    zero = np.zeros_like(scale) if rounded.zero is None else rounded.zero.astype(np.float32)
    group = np.arange(k) // dtype.group_size(k)
    wide = (n, scale.shape[1])
    return np.broadcast_to(scale, wide)[:, group], np.broadcast_to(zero, wide)[:, group]


def dequantized(rounded: Rounded, dtype: DType) -> np.ndarray:
    scale, zero = per_weight(rounded, dtype)
    values = dtype.element.values[dtype.element.to_unsigned(rounded.codes)]
    decoded: np.ndarray = (values - zero) * scale
    return decoded


def squared_error(weight: np.ndarray, rounded: Rounded, dtype: DType) -> float:
    return float(np.square(dequantized(rounded, dtype).astype(np.float64) - weight).sum())
