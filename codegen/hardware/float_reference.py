"""Sums of floats as the hardware computes them, in NumPy.

Terms are aligned to the largest exponent and cut off below 2^-FRACTION of it, added exactly, and
the result is cut off to the 24 bits of a float32. So a sum never rounds up. Tensor cores do the
same (Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021); how many places they keep
differs from one to the next.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ladder.hardware.tensor_cores import Activation

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
SINGLE = Activation("fp32", 32, 8, 23)
FRACTION = 26  # places after the point of the largest term: three more than a float32 has
HEADROOM = 6  # places before it: five terms below 4, and their sign
LARGEST = (254 << 23) | (1 << 23) - 1  # the largest float32, as bits


def float_bits(x: npt.NDArray[np.floating], kind: Activation) -> I64:
    """The bits of ``x`` rounded to ``kind``; subnormal numbers become zero."""
    if kind.name == "fp16":
        bits = x.astype(np.float16).view(np.uint16).astype(np.int64)
    else:
        import ml_dtypes

        bits = x.astype(ml_dtypes.float8_e4m3fn).view(np.uint8).astype(np.int64)
    empty = bits >> kind.mantissa & (1 << kind.exponent) - 1 == 0
    return np.where(empty, bits & 1 << kind.bits - 1, bits)


def float_terms(bits: I64, kind: Activation) -> tuple[I64, I64, I64]:
    """Sign, exponent (biased as in float32) and magnitude of floats."""
    exponent = bits >> kind.mantissa & (1 << kind.exponent) - 1
    fraction = bits & (1 << kind.mantissa) - 1
    magnitude = (fraction | 1 << kind.mantissa) << FRACTION - kind.mantissa
    live = exponent > 0
    shifted = exponent + SINGLE.bias - kind.bias
    return bits >> kind.bits - 1, np.where(live, shifted, 0), np.where(live, magnitude, 0)


def product_terms(a: I64, b: I64, kind: Activation) -> tuple[I64, I64, I64]:
    """Sign, exponent and magnitude of exact products."""
    mask, ones = (1 << kind.exponent) - 1, (1 << kind.mantissa) - 1
    first, second = a >> kind.mantissa & mask, b >> kind.mantissa & mask
    product = (a & ones | ones + 1) * (b & ones | ones + 1) << FRACTION - 2 * kind.mantissa
    live = (first > 0) & (second > 0)
    exponent = first + second + SINGLE.bias - 2 * kind.bias
    sign = (a ^ b) >> kind.bits - 1
    return sign, np.where(live, exponent, 0), np.where(live, product, 0)


def aligned_sum(sign: I64, exponent: I64, magnitude: I64) -> I64:
    """float32 bits [...] of the sums of terms [..., count]."""
    largest = exponent.max(-1)
    distance = largest[..., None] - exponent
    kept = np.where(distance < 32, magnitude >> np.minimum(distance, 31), 0)
    total = np.where(sign, -kept, kept).sum(-1)
    return _packed(total < 0, largest, np.abs(total))


def _packed(negative: npt.NDArray[np.bool_], exponent: I64, magnitude: I64) -> I64:
    width = FRACTION + HEADROOM
    # Integers below 2^53 are exact in float64, whose exponent is the place of the highest bit.
    highest = np.frexp(magnitude.astype(np.float64))[1] - 1
    scaled = exponent + highest - FRACTION
    aligned = magnitude << np.maximum(width - 1 - highest, 0)
    fraction = aligned >> width - 1 - SINGLE.mantissa & (1 << SINGLE.mantissa) - 1
    body = np.where(scaled > 254, LARGEST, scaled << SINGLE.mantissa | fraction)
    small = (magnitude == 0) | (scaled <= 0)
    return np.where(small, 0, body | negative.astype(np.int64) << 31)
