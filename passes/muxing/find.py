"""Which channels are outliers, and how their integers are written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ladder.errors import LadderError
from ladder.ir.activation import QUANTIZED, TOKEN, Activation
from ladder.ir.dtype import DType
from ladder.ir.mux import DIGITS, MUXQ, Mux
from ladder.ir.numerics import F32

RELATIVE, ABSOLUTE = "relative", "absolute"
RULES = (RELATIVE, ABSOLUTE)
FACTORS = (16.0, 8.0, 4.0, 3.0, 2.0, 1.5, 1.0)  # of the threshold: each gives a set to try
MOST_DIGITS = 3  # after the low one
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rule:
    """Decides which channels are outliers, by their largest magnitude over the calibration tokens.

    ``relative``: more than ``threshold`` times the typical channel, which is the median of those
    that are not zero. ``absolute``: more than ``threshold``, as in MUXQ and LLM.int8(). If that is
    more than the share ``most`` of all channels, the largest are taken. With ``tails`` the set of
    all channels is the last to try: where every channel has long tails, none is ordinary.
    """

    name: str
    threshold: float
    most: float
    tails: bool = False

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise LadderError(f"unknown rule '{self.name}'; one of: {', '.join(RULES)}")
        if not self.threshold > 0 or not 0 < self.most < 1:
            raise LadderError(
                f"outliers over {self.threshold} of at most {self.most:g} of the channels: "
                "give a threshold over 0 and a share between 0 and 1"
            )

    def sets(self, largest: F32) -> list[I64]:
        """Nested sets of outliers: those over higher thresholds, the rule's own, all channels."""
        factors = FACTORS if self.name == RELATIVE else FACTORS[-1:]
        found: list[I64] = []
        for factor in factors:
            some = self.channels(largest, factor)
            if len(some) > (len(found[-1]) if found else 0):
                found.append(some)
        if self.tails and largest.any():
            found.append(np.arange(len(largest)))
        return found

    def channels(self, largest: F32, factor: float = 1.0) -> I64:
        """The indices of the outliers among channels with these magnitudes [K], ascending.

        ``factor`` multiplies the threshold.
        """
        heard = largest[largest > 0]
        if not heard.size:
            return np.zeros(0, np.int64)
        typical = float(np.median(heard)) if self.name == RELATIVE else 1.0
        order = np.argsort(-largest, kind="stable")[: max(1, int(self.most * len(largest)))]
        found = order[largest[order] > self.threshold * factor * typical]
        return np.sort(found).astype(np.int64)


def ratio_of(x: F32, largest: F32, channels: I64, kind: Activation) -> float:
    """The largest outlier over the largest ordinary value that shares a scale with it.

    For a scale per tensor it is taken over all tokens. For a scale per token it is the largest
    over the tokens of x [R, K]; the ordinary value of a token counts at least as much as the
    median over the tokens, so that a nearly empty token does not matter.
    """
    outlier = np.isin(np.arange(len(largest)), channels)
    if outlier.all():
        return 1.0
    if kind.granularity != TOKEN:
        ordinary = float(largest[~outlier].max())
        return float(largest[channels].max()) / ordinary if ordinary > 0 else 1.0
    high, low = np.abs(x[:, outlier]).max(1), np.abs(x[:, ~outlier]).max(1)
    least = float(np.median(low))
    return float((high / np.maximum(low, least)).max()) if least > 0 else 1.0


def digits_for(ratio: float, mode: str, dtype: DType, k: int, channels: int) -> Mux:
    """The fewest digits for outliers ``ratio`` times the ordinary values, in the largest base.

    Any base 2^E that reaches far enough gives the same integers, as long as E is less than the
    bits of a code: then every low digit fits. So the largest base costs nothing, and leaves room
    for texts with larger outliers than those in calibration. Where an int32 sum would overflow,
    the base is smaller, and outliers beyond its reach make the step of all channels coarser.
    """
    bits = QUANTIZED[mode].bits
    ways = [Mux(DIGITS, e, d) for d in range(1, MOST_DIGITS + 1) for e in range(bits - 1, 0, -1)]
    fitting = [mux for mux in ways if mux.refuse(mode, dtype, k, channels) is None]
    enough = [mux for mux in fitting if mux.reach >= ratio]
    if enough:
        return enough[0]
    return max(fitting, key=lambda mux: mux.reach, default=ways[0])


def muxq(exponent: int) -> Mux:
    """The paper's form: outliers divided by 2^e, in body and aux (MUXQ, arXiv 2604.04701)."""
    if not 1 <= exponent <= 7:
        raise LadderError(f"exponent {exponent} of muxq: give 1 to 7; the paper has 2")
    return Mux(MUXQ, exponent)
