"""The types that scales are stored in, one row for each."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class ScaleType:
    """A float type of scales, and of float zero points if it is fine enough."""

    dtype: np.dtype
    mantissa: int  # bits of the mantissa; 0: powers of two
    of_tensor: bool = False  # whether there is one more scale, fp32, for the whole tensor

    @property
    def largest(self) -> float:
        return float(ml_dtypes.finfo(self.dtype).max)

    @property
    def smallest(self) -> float:
        """The smallest number above 0, subnormal numbers included."""
        return float(ml_dtypes.finfo(self.dtype).smallest_subnormal)

    @property
    def fine(self) -> bool:
        """Whether it can store float zero points and scales that are learned in small steps."""
        return self.dtype.itemsize > 1

    @property
    def bits_type(self) -> str:
        """The type that kernels read it as: raw bits, except for float32."""
        return "float32" if self.dtype == np.float32 else f"uint{8 * self.dtype.itemsize}"


SCALE_TYPES = {
    "fp32": ScaleType(np.dtype(np.float32), 23),
    "fp16": ScaleType(np.dtype(np.float16), 10),
    "bf16": ScaleType(np.dtype(ml_dtypes.bfloat16), 7),
    "e8m0": ScaleType(np.dtype(ml_dtypes.float8_e8m0fnu), 0),
    "e4m3": ScaleType(np.dtype(ml_dtypes.float8_e4m3fn), 3, of_tensor=True),
}
