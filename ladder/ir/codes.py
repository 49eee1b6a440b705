"""A weight in its stored form: codes and scales of one type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.ir.numerics import F32


@dataclass(frozen=True)
class Codes:
    """Codes [N, K] as the IR stores them (``Element.from_unsigned``), with scales and zero points.

    Scale and zero have the shape of ``DType.scale_shape``, the scale in its stored type.
    """

    dtype: DType
    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None = None
    tensor_scale: np.float32 | None = None

    def values(self) -> F32:
        """The weight [N, K] in float32."""
        return dequantized(self.dtype, self.codes, self.scale, self.zero, self.tensor_scale)
