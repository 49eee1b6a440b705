"""Errors of products under a remedy: integers against float, on tokens of the calibration data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ladder.ir import numerics
from ladder.ir.activation import QUANTIZED, STATIC, block_of
from ladder.ir.dequantize import dequantized
from ladder.ir.dtype import DType
from ladder.ir.mux import Mux, mux_activation
from ladder.ir.numerics import F32
from ladder.passes.muxing.find import I64
from ladder.passes.rounding.methods import QUICKEST
from ladder.passes.rounding.one_weight import round_by

OUTPUTS = 256  # rows computed per product: with all tokens, errors are exact to about a percent
WEIGHTS_BY = QUICKEST  # a quick method will do: the same one for every remedy


class Products:
    """x W' [M, N] at sites that read one x, in float and in integers.

    At most ``OUTPUTS`` of the N out features are computed, evenly spread; x [M, K], weights [N, K].
    """

    def __init__(self, x: F32, weights: Sequence[F32], types: Sequence[DType]) -> None:
        some = [w[np.linspace(0, len(w) - 1, min(len(w), OUTPUTS)).astype(int)] for w in weights]
        self._rounded = [_rounded_weight(w, t) for w, t in zip(some, types, strict=True)]
        self._wanted = [x @ w.T for w in some]
        self.alone = together([self.error(i, x) for i in range(len(some))])  # of rounding weights

    def error(self, site: int, rounded_x: F32) -> float:
        """The relative error, with each token divided by its own size: the root mean square.

        Otherwise the few tokens with massive activations would dominate.
        """
        wanted = self._wanted[site]
        miss = rounded_x @ self._rounded[site].T
        miss -= wanted
        lost, power = (np.einsum("mn,mn->m", y, y, dtype=np.float64) for y in (miss, wanted))
        live = power > 0
        return float(np.sqrt(np.mean(lost[live] / power[live]))) if live.any() else 0.0


def together(errors: Sequence[float]) -> float:
    """The error of several products together: the root mean square."""
    return float(np.sqrt(np.mean(np.square(errors))))


def _rounded_weight(weight: F32, dtype: DType) -> F32:
    """The weight [N, K], rounded to its type and decoded again."""
    done = round_by(WEIGHTS_BY, weight, dtype).rounded
    return dequantized(dtype, done.codes, done.scale, done.zero, done.tensor_scale)


def static_scale(
    largest: F32, mode: str, channels: I64 | None = None, mux: Mux | None = None
) -> np.float32:
    """The least scale for these magnitudes [K]; outliers reach ``mux.reach`` times further."""
    reached = largest.copy()
    if mux is not None and channels is not None:
        reached[channels] /= np.float32(mux.reach)
    return np.float32(reached.max() / QUANTIZED[mode].levels)


def rounded_input(
    x: F32, mode: str, dtype: DType, largest: F32, channels: I64, mux: Mux | None
) -> F32:
    """The values [M, K] of the integer codes of x, by the numerics of the dialect."""
    kind, k = QUANTIZED[mode], x.shape[1]
    block = block_of(dtype, mode, k)
    static = None
    if kind.granularity == STATIC:
        static = static_scale(largest, mode, channels, mux)
    if mux is None:
        q, scale, _ = numerics.quantize_activation(x, block, kind.bits, kind.granularity, static)
        whole = q.astype(np.float32)
    else:
        q, aux, scale, _ = mux_activation(
            x, channels, mux, block, kind.bits, kind.granularity, static
        )
        whole = q.astype(np.float32)
        wide = np.zeros((len(x), k), np.float32)
        for d in range(mux.digits):
            wide[:, channels] += aux[:, d].astype(np.float32) * np.float32(mux.factor ** (d + 1))
        whole += numerics.split_blocks(wide, block)
    padded = whole * scale[..., None]
    return padded[..., :block].reshape(len(x), -1)[:, :k]
