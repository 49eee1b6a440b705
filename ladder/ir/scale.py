"""The types that scales are stored in: one row each."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class ScaleType:
    """A float type of scales, and of float zero points where it is fine enough."""

    dtype: np.dtype
    mantissa: int  # its bits; 0: powers of two
    of_tensor: bool = False  # one more scale, fp32, holds for the whole tensor

    @property
    def largest(self) -> float:
        return float(ml_dtypes.finfo(self.dtype).max)

    @property
    def smallest(self) -> float:
        """The smallest above 0, subnormal numbers counted."""
        return float(ml_dtypes.finfo(self.dtype).smallest_subnormal)

    @property
    def fine(self) -> bool:
        """Whether float zero points can be stored in it, and scales learned in small steps."""
        return self.dtype.itemsize > 1

    @property
    def bits_type(self) -> str:
        """The type in which kernels read it: raw bits, but for float32."""
        return "float32" if self.dtype == np.float32 else f"uint{8 * self.dtype.itemsize}"


SCALE_TYPES = {
    "fp32": ScaleType(np.dtype(np.float32), 23),
    "fp16": ScaleType(np.dtype(np.float16), 10),
    "bf16": ScaleType(np.dtype(ml_dtypes.bfloat16), 7),
    "e8m0": ScaleType(np.dtype(ml_dtypes.float8_e8m0fnu), 0),
    "e4m3": ScaleType(np.dtype(ml_dtypes.float8_e4m3fn), 3, of_tensor=True),
}
