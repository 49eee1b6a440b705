"""The float32 weight of low-bit operands: the meaning of the dialect in NumPy."""

from __future__ import annotations

import numpy as np

from ladder.ir.dtype import DType
from ladder.ir.numerics import F32, stored_scale


def dequantized(
    dtype: DType,
    codes: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray | None = None,
    tensor_scale: np.float32 | None = None,
) -> F32:
    """w [N, K] = (value - zero) * scale, or value * scale + zero where that is a minimum.

    Floats are float32, and each operation is rounded separately.

    ``codes`` [N, K] are as stored in the IR; ``scale`` and ``zero`` have the shape of
    ``DType.scale_shape``. ``ladder.ir.bodies.dequantized`` is the same in ONNX.
    """
    element, (n, k) = dtype.element, codes.shape
    values = np.nan_to_num(element.values)
    factor = np.float32(1) if tensor_scale is None else tensor_scale
    wide = np.broadcast_to(stored_scale(scale, factor), (n, dtype.groups(k)))
    w: F32 = values[element.to_unsigned(codes)]
    size = dtype.group_size(k)
    for group, first in enumerate(range(0, k, size)):
        part = w[:, first : first + size]
        base = zero if zero is None else np.broadcast_to(zero, wide.shape)[:, group, None]
        if base is not None and not dtype.minimum:
            part -= base.astype(np.float32)
        part *= wide[:, group, None]
        if base is not None and dtype.minimum:
            part += base.astype(np.float32)
    return w
