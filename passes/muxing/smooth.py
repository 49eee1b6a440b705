"""SmoothQuant (Xiao et al., ICML 2023): large channels of x divided, their weights multiplied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ladder.ir.numerics import F32
from ladder.passes.muxing.find import I64


def smoothing(largest: F32, weights: Sequence[F32], alpha: float, ties: I64) -> F32:
    """The divisor of each channel: [K] powers of two.

    max|x_k|^alpha / max|w_k|^(1 - alpha) (equation 4), over all weights [N, K] that read x, with
    a geometric mean of 1, rounded to a power of two, so that dividing here and multiplying
    there changes no bit of a float product. A channel that is zero on either side stays as it is.
    The channels in a row of ``ties`` [groups, channels] share the divisor of the largest.
    """
    largest = largest.copy()
    largest[ties] = largest[ties].max(1, keepdims=True)
    column = np.max([np.abs(w).max(0) for w in weights], axis=0)
    column[ties] = column[ties].max(1, keepdims=True)
    live = (largest > 0) & (column > 0)
    exponent = np.zeros(len(largest))
    exponent[live] = alpha * np.log2(largest[live]) - (1 - alpha) * np.log2(column[live])
    if live.any():
        exponent[live] -= exponent[live].mean()
    divisor: F32 = np.exp2(np.rint(exponent)).astype(np.float32)
    return divisor
