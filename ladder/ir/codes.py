"""A weight in its stored form: codes and scales of one type."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.ir.numerics import F32
from ladder.support.typed_arrays import load_arrays, save_arrays


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

    def rows(self, order: np.ndarray) -> Codes:
        """The same rows in another order."""
        scales = (self.scale, self.zero)
        scale, zero = (x[order] if x is not None and len(x) > 1 else x for x in scales)
        assert scale is not None
        return replace(self, codes=self.codes[order], scale=scale, zero=zero)

    def save(self, path: Path) -> None:
        """Write them to a file."""
        arrays = {
            "codes": self.codes,
            "scale": self.scale,
            "zero": self.zero,
            "tensor_scale": None if self.tensor_scale is None else np.array(self.tensor_scale),
        }
        save_arrays(path, arrays, {"type": str(self.dtype)})

    @staticmethod
    def load(path: Path) -> Codes:
        """Read a file of ``save``."""
        found, report = load_arrays(path)
        whole = found.get("tensor_scale")
        return Codes(
            DType.parse(report["type"]),
            found["codes"],
            found["scale"],
            found.get("zero"),
            None if whole is None else np.float32(whole),
        )
