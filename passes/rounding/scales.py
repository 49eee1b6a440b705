"""Scales and float zero points as they are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ladder.ir.dtype import DType
from ladder.ir.numerics import F32, SMALLEST_SCALE, stored_scale
from ladder.ir.scale import ScaleType
from ladder.passes.rounding.grid import grid_of

LARGEST_EXPONENT = 40
FURTHEST_ZERO = 12  # bits: see zero_reach


@dataclass(frozen=True)
class Scales:
    """Rounds scales to a type's stored form; what it returns and takes is float32.

    All work on a weight is done on the weight times 2^-exponent, so that squares neither overflow
    nor vanish. That changes no code, but scales are stored in their true size: ``wide`` is the
    decoded scale times 2^-exponent.
    """

    kind: ScaleType
    smallest: np.float32
    largest: np.float32
    factor: np.float32  # the tensor's own scale, 1 if there is none
    exponent: int
    has_zero: bool  # the element has the value 0, so a small scale does no harm

    @staticmethod
    def of(dtype: DType, largest_weight: float) -> Scales:
        """Scales chosen so that every decoded weight is a finite, normal float32.

        ``factor`` (NVFP4): largest |w| / (448 * largest value), so that rtn gives the group with
        the largest weight the largest e4m3 as its scale (NVIDIA, "Pretraining Large Language
        Models with NVFP4", 2025, appendix on quantization); twice that where a zero point lets
        a group range from -|w| to |w|.
        """
        values = grid_of(dtype.element).values
        reach = float(np.abs(values).max())
        _, exponent = math.frexp(largest_weight)
        factor = np.float32(1)
        if dtype.tensor_scale and largest_weight > 0:
            range_of = largest_weight * (2 if dtype.zero_point else 1)
            spans = np.float32(range_of / (span_of(dtype) * dtype.scale_type.largest))
            factor = max(spans, SMALLEST_SCALE)
        limit = 2.0 ** (127 - math.ceil(math.log2(max(reach, 1))))
        return Scales(
            dtype.scale_type,
            np.float32(max(dtype.scale_type.smallest, float(SMALLEST_SCALE))),
            np.float32(min(dtype.scale_type.largest, limit)),
            factor,
            exponent if abs(exponent) > LARGEST_EXPONENT else 0,
            bool((values == 0).any()),
        )

    @property
    def signed(self) -> bool:
        return not self.powers_of_two

    @property
    def powers_of_two(self) -> bool:
        return self.kind.mantissa == 0

    def store(self, scale: F32) -> np.ndarray:
        """The scale rounded to the nearest of its type, clamped to the range of the type.

        A scale that is too small becomes the smallest one if the element has the value 0, which
        then represents small weights; it becomes 0 if the element has no 0 and 0 is nearer.
        """
        with np.errstate(over="ignore", under="ignore"):
            true = np.ldexp(scale.astype(np.float32), self.exponent) / self.factor
        size = np.minimum(np.abs(true), self.largest)
        if self.powers_of_two:
            fraction, power = np.frexp(size)  # fraction in [0.5, 1), halfway at 0.75
            nearest = np.ldexp(np.float32(0.5), power + (fraction > 0.75))
            true = np.clip(np.where(size > 0, nearest, 0), self.smallest, self.largest)
        else:
            floor = 0 if self.has_zero else self.smallest / 2
            size = np.where(size > floor, np.maximum(size, self.smallest), np.float32(0))
            true = np.copysign(size, true)
        stored: np.ndarray = true.astype(self.kind.dtype)
        return stored

    def wide(self, stored: np.ndarray) -> F32:
        """The decoded value of a stored scale, times 2^-exponent."""
        return np.ldexp(stored_scale(stored, self.factor), -self.exponent)

    def rounded(self, scale: F32) -> F32:
        """The scale that is decoded if this one is stored."""
        return self.wide(self.store(scale))


def span_of(dtype: DType) -> float:
    """The value that rtn maps the largest weight to: 7 for int4, where -8 is on one side only."""
    values = grid_of(dtype.element).values
    return float(np.abs(values).max() if dtype.element.book else values[-1])


def zero_reach(dtype: DType) -> int:
    """Log2 of the largest zpf zero point: above it, its rounding would swamp the codes."""
    return min(dtype.scale_type.mantissa, FURTHEST_ZERO)


def rounded_zero(zero: F32, dtype: DType) -> F32:
    """A float zero point as it will be decoded."""
    reach = np.float32(2.0 ** (zero_reach(dtype) + 1))
    whole: F32 = np.clip(zero, -reach, reach).astype(dtype.zero_kind).astype(np.float32)
    return whole
