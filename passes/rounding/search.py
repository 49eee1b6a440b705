"""Scale and zero point of a group, and the codes for them.

Weights come as w [rows, groups, size]; a scale or zero point is [rows, groups], float32, and is
always one that can be stored: codes are chosen for the scale that is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ladder.ir.dtype import FLOAT_ZERO, DType
from ladder.ir.numerics import F32
from ladder.passes.rounding.grid import Grid, codes_of, grid_of
from ladder.passes.rounding.scales import Scales, rounded_zero, span_of, zero_reach

STEPS = 11  # scales tried between the largest and the smallest plausible one
REFITS = 2
LONGEST_SUM = 1 << 16  # float32 sums of more terms lose too much
OCTAVE = 2.0
LARGEST = np.finfo(np.float32).max


@dataclass(frozen=True)
class GroupScales:
    """A scale and, where the type has one, a zero point for each group."""

    scale: F32
    zero: F32 | None = None

    def where(self, better: np.ndarray, other: GroupScales) -> GroupScales:
        """This choice, with the groups of ``other`` where those are better."""
        zero = None
        if self.zero is not None and other.zero is not None:
            zero = np.where(better, other.zero, self.zero)
        return GroupScales(np.where(better, other.scale, self.scale), zero)

    def each_row(self, n: int) -> GroupScales:
        """The tensor's choice for each of n rows."""
        zero = None if self.zero is None else np.broadcast_to(self.zero, (n, 1))
        return GroupScales(np.broadcast_to(self.scale, (n, 1)), zero)


Chooser = Callable[["Coder", F32], GroupScales]


@dataclass(frozen=True)
class Coder:
    """Turns weights of one tensor into codes of a type and back."""

    dtype: DType
    scales: Scales

    @staticmethod
    def of(dtype: DType, weight: np.ndarray) -> Coder:
        return Coder(dtype, Scales.of(dtype, float(np.abs(weight).max(initial=0))))

    @cached_property
    def grid(self) -> Grid:
        return grid_of(self.dtype.element)

    @cached_property
    def two_sided(self) -> bool:
        """Whether a negative scale reaches values that a positive one does not."""
        values = self.grid.values
        return self.scales.signed and not np.array_equal(values, -values[::-1])

    @cached_property
    def reach(self) -> float:
        """The largest magnitude of a value, 8 for int4."""
        return float(np.abs(self.grid.values).max())

    def tame(self, weight: np.ndarray) -> F32:
        """The weights times 2^-exponent, see ``Scales``."""
        exponent = self.scales.exponent
        return np.ldexp(weight, -exponent) if exponent else np.asarray(weight, np.float32)

    def steps(self, w: F32, choice: GroupScales) -> F32:
        """w in units of the scale, zero point added: in the units of the grid's values."""
        live = choice.scale != 0
        with np.errstate(over="ignore"):
            inverse = np.where(live, 1 / np.where(live, choice.scale, np.float32(1)), np.float32(0))
            # Finite, so that 0 stays 0; values that overflow here belong to the last code.
            t: F32 = w * np.clip(inverse, -LARGEST, LARGEST)[..., None]
        if choice.zero is not None:
            t += choice.zero[..., None]
        return t

    def values(self, w: F32, choice: GroupScales) -> F32:
        """The nearest values minus the zero point: w is about scale times this. Fast."""
        q = self.grid.nearest(self.steps(w, choice))
        if choice.zero is not None:
            q -= choice.zero[..., None]
        return q

    def encode(self, w: F32, choice: GroupScales) -> np.ndarray:
        """Codes as the IR stores them: in float32 arithmetic no other code decodes nearer to w."""
        place, unsure = self.grid.places(self.steps(w, choice))
        at = np.flatnonzero(unsure)
        if at.size:
            group = at // w.shape[-1]
            some = GroupScales(
                choice.scale.reshape(-1)[group],
                None if choice.zero is None else choice.zero.reshape(-1)[group],
            )
            flat = place.reshape(-1)
            flat[at] = self._settled(w.reshape(-1)[at], flat[at], some)
        codes: np.ndarray = codes_of(self.dtype.element)[place]
        return codes

    def _settled(self, w: F32, place: np.ndarray, choice: GroupScales) -> np.ndarray:
        """The best of a place and its two neighbours; a tie stays where it is."""
        best, last = place.astype(np.int16), len(self.grid.values) - 1
        least = np.abs(self._decoded(best, choice) - w)
        for step in (-1, 1):
            other = np.clip(place.astype(np.int16) + step, 0, last)
            error = np.abs(self._decoded(other, choice) - w)
            best = np.where(error < least, other, best)
            least = np.minimum(error, least)
        return best.astype(np.uint8)

    def _decoded(self, place: np.ndarray, choice: GroupScales) -> F32:
        values = self.grid.values[place]
        if choice.zero is not None:
            values = values - choice.zero
        decoded: F32 = values * choice.scale
        return decoded

    def decode(self, codes: np.ndarray, choice: GroupScales) -> F32:
        """The decoded weights of codes [rows, groups, size], times 2^-exponent."""
        element = self.dtype.element
        values: F32 = element.values[element.to_unsigned(codes)]
        if choice.zero is not None:
            values -= choice.zero[..., None]
        values *= choice.scale[..., None]
        return values


def spanning(coder: Coder, w: F32) -> GroupScales:
    """rtn: the scale that spans the group.

    max|w| lands on the element's largest value (``span_of``). With e8m0 scales the exponent is
    floor(log2 max|w|) - floor(log2 largest value), as in OCP Microscaling Formats v1.0, section
    6.3. Elements of one magnitude (ternary, int1) take the mean of |w| instead, as BitNet
    b1.58 (Ma et al., "The Era of 1-bit LLMs", equations 1 to 3) and BitNet (equation 2) do: for
    them a span would round nearly all weights to 0, or be larger than nearly all of them.
    """
    if coder.dtype.zero_point:
        return _range_choice(coder, w.min(-1), w.max(-1))
    magnitudes = np.unique(np.abs(coder.grid.values[coder.grid.values != 0]))
    if len(magnitudes) == 1:
        mean = np.abs(w).mean(-1, dtype=np.float64) / magnitudes[0]
        return GroupScales(coder.scales.rounded(mean.astype(np.float32)))
    largest = np.abs(w).max(-1)
    if coder.scales.powers_of_two:
        exponent = np.frexp(largest)[1] - math.frexp(span_of(coder.dtype))[1]
        power = np.ldexp(np.float32(1), exponent)
        return GroupScales(coder.scales.rounded(np.where(largest > 0, power, 0)))
    return GroupScales(coder.scales.rounded(largest / np.float32(span_of(coder.dtype))))


def least_squares(coder: Coder, w: F32, importance: F32 | None = None) -> GroupScales:
    """mse: the scale with the least squared error of several, then refitted to its codes.

    Tried are the scale of rtn, and scales from max|w| / largest value downwards in equal ratios,
    to half of it or to the best scale for normal weights; with both signs if the element
    reaches further on one side. A refit (least squares for fixed codes, then the nearest scale
    that can be stored) is kept where the error does not grow.

    ``importance`` [size], if given, multiplies the squared errors of a group's columns.
    """
    best = spanning(coder, w)
    least = _squared_error(w, coder.values(w, best), best.scale, importance)
    for choice in _candidates(coder, w):
        error = _squared_error(w, coder.values(w, choice), choice.scale, importance)
        best = best.where(error < least, choice)
        least = np.minimum(least, error)
    choice, values = best, coder.values(w, best)
    for _ in range(REFITS):
        choice = _refitted(coder, w, values, choice, importance)
        values = coder.values(w, choice)
        error = _squared_error(w, values.copy(), choice.scale, importance)
        best = best.where(error < least, choice)
        least = np.minimum(least, error)
    return best


def _candidates(coder: Coder, w: F32) -> Iterator[GroupScales]:
    if coder.dtype.zero_point:
        yield from _ranges(coder, w)
        return
    largest = np.abs(w).max(-1) / np.float32(coder.reach)
    smallest = _usual_clip(coder) * _power(w) / np.float32(coder.reach)
    if coder.scales.powers_of_two:
        yield from _powers_of_two(coder, largest, smallest)
        return
    signs = (1, -1) if coder.two_sided else (1,)
    for factor in _factors(largest, smallest):
        for sign in signs:
            yield GroupScales(coder.scales.rounded(largest * (factor * np.float32(sign))))


def _powers_of_two(coder: Coder, largest: F32, smallest: F32) -> Iterator[GroupScales]:
    """Every exponent that may be best: from just above the largest scale, an octave at a time."""
    ratio = np.max(largest / np.where(smallest > 0, smallest, 1), initial=OCTAVE)
    top = np.ldexp(np.float32(1), np.frexp(largest)[1])
    for octave in range(2 + math.ceil(math.log2(ratio))):
        yield GroupScales(coder.scales.rounded(np.where(largest > 0, np.ldexp(top, -octave), 0)))


def _ranges(coder: Coder, w: F32) -> Iterator[GroupScales]:
    """Choices with a zero point: the range of the weights, shrunk step by step."""
    low, high = w.min(-1), w.max(-1)
    middle = (low + high) / 2 if coder.dtype.zero == FLOAT_ZERO else np.zeros_like(low)
    low, high = low - middle, high - middle
    power = np.sqrt(np.maximum(_power(w) ** 2 - np.square(w.mean(-1)), 0))
    for factor in _factors(high - low, 2 * _usual_clip(coder) * power)[1:]:
        yield _range_choice(coder, middle + low * factor, middle + high * factor)


def _factors(largest: F32, smallest: F32) -> list[F32]:
    """1 to smallest / largest, at least down to a half, in equal ratios: [rows, groups] each."""
    with np.errstate(divide="ignore", invalid="ignore"):
        least = np.clip(np.nan_to_num(smallest / largest, nan=0.5), 2.0**-10, 0.5)
    return [least ** np.float32(i / (STEPS - 1)) for i in range(STEPS)]


def _usual_clip(coder: Coder) -> np.float32:
    """A little under the best clipping point of normal weights, in standard deviations."""
    return np.float32(0.5 * math.log2(len(coder.grid.values)))


def _range_choice(coder: Coder, low: F32, high: F32) -> GroupScales:
    """Scale and zero point that map low..high to the codes.

    An integer zero point is itself a code, so the range must include 0. A float one is free;
    the scale is then large enough for the zero point to stay within ``zero_reach``.
    """
    element, dtype = coder.dtype.element, coder.dtype
    if dtype.zero != FLOAT_ZERO:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = (high - low) / np.float32(element.high)
    if dtype.zero == FLOAT_ZERO:
        furthest = np.maximum(np.abs(low), np.abs(high))
        scale = np.maximum(scale, np.ldexp(furthest, -zero_reach(dtype)))
    scale = coder.scales.rounded(scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = np.where(scale == 0, np.float32(0), -low / scale)
    if dtype.zero == FLOAT_ZERO:
        return GroupScales(scale, rounded_zero(zero, dtype))
    return GroupScales(scale, np.clip(np.rint(zero), element.low, element.high))


def _refitted(
    coder: Coder, w: F32, values: F32, choice: GroupScales, importance: F32 | None
) -> GroupScales:
    """The least-squares scale, and float zero point, for the chosen values."""
    if coder.dtype.zero == FLOAT_ZERO:
        return _line(coder, w, values, choice, importance)
    above, below = _dot(w, values, importance), _dot(values, values, importance)
    return GroupScales(coder.scales.rounded(_divided(above, below, choice.scale)), choice.zero)


def _line(
    coder: Coder, w: F32, values: F32, choice: GroupScales, importance: F32 | None
) -> GroupScales:
    """The regression line w = (q - z) s, by deviations from the means.

    Alternated with rounding, as in HQQ (Badri & Shaji, "Half-Quadratic Quantization of Large
    Machine Learning Models", 2023), here with squared errors. The zero point is computed last,
    for the scale that is stored.
    """
    assert choice.zero is not None
    mean_w, mean_v = (np.average(a, -1, importance).astype(np.float32) for a in (w, values))
    moved, around = values - mean_v[..., None], w - mean_w[..., None]
    slope = _divided(_dot(around, moved, importance), _dot(moved, moved, importance), choice.scale)
    scale = coder.scales.rounded(slope)
    shift = _divided(mean_w, scale, np.zeros_like(scale)) - mean_v
    return GroupScales(scale, rounded_zero(choice.zero - shift, coder.dtype))


def _divided(above: F32, below: F32, otherwise: F32) -> F32:
    """above / below, and ``otherwise`` where ``below`` is 0."""
    live = below != 0
    return np.where(live, above / np.where(live, below, 1), otherwise).astype(np.float32)


def _squared_error(w: F32, values: F32, scale: F32, importance: F32 | None) -> F32:
    """Squared error [rows, groups]; ``values`` are overwritten."""
    values *= scale[..., None]
    values -= w
    return _dot(values, values, importance)


def _power(w: F32) -> F32:
    """Root mean square [rows, groups]."""
    root: F32 = np.sqrt(_dot(w, w) / np.float32(w.shape[-1]))
    return root


def _dot(a: F32, b: F32, importance: F32 | None = None) -> F32:
    """Sums of products, times importance, over the last axis: [rows, groups]."""
    if importance is not None:
        a = a * importance
    cuts = range(0, a.shape[-1], LONGEST_SUM)
    pieces = [np.vecdot(a[..., i : i + LONGEST_SUM], b[..., i : i + LONGEST_SUM]) for i in cuts]
    total = pieces[0] if len(pieces) == 1 else np.sum(pieces, axis=0, dtype=np.float64)
    return np.asarray(total, np.float32)
