"""Activation modes: how a product rounds its activations.

A mode is written ``int8``, ``int6:tensor`` or ``int8:static``: the width of a code, and what shares
a scale. ``table8`` and ``fp32`` are modes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.ir.numerics import ACTIVATION_LEVELS, LUT_GROUP

BLOCK, TOKEN, TENSOR, STATIC = "block", "token", "tensor", "static"
GRANULARITIES = {
    BLOCK: "one scale per token and scale block",
    TOKEN: "one scale per token",
    TENSOR: "one scale for all tokens together",
    STATIC: "one scale, found in calibration",
}
NARROW = 4  # up to so many bits, one scale per token is the default, as in BitNet


@dataclass(frozen=True)
class Activation:
    """A mode: the ``bits`` of a code, and what shares a scale (one of ``GRANULARITIES``)."""

    bits: int
    granularity: str

    @property
    def element(self) -> str:
        return f"int{self.bits}"

    @property
    def name(self) -> str:
        """The shortest text of the mode."""
        default = TOKEN if self.bits <= NARROW else BLOCK
        return self.element if self.granularity == default else f"{self.element}:{self.granularity}"

    @property
    def levels(self) -> np.float32:
        """The largest code."""
        return ACTIVATION_LEVELS[self.bits]

    @property
    def what(self) -> str:
        levels = int(self.levels)
        return f"{self.element} codes -{levels}..{levels}, {GRANULARITIES[self.granularity]}"

    @property
    def exact_tables_fit_a_byte(self) -> bool:
        """Whether the sum of four codes fits int8, so that table entries need one byte."""
        return LUT_GROUP * int(self.levels) < 128


TABLE8, FLOAT = "table8", "fp32"
QUANTIZED = {
    mode.name: mode for mode in (Activation(b, g) for b in ACTIVATION_LEVELS for g in GRANULARITIES)
}
WHAT = {
    **{name: mode.what for name, mode in QUANTIZED.items()},
    TABLE8: "tables of four activations, rounded to int8 (integer types only)",
    FLOAT: "activations stay as they are; the slow kernel decodes weights",
}
# A mode for each kind of look-up table; the look-ups of every other mode are those of one of these.
INTEGER_MODES = ("int8", "int4", "int2", TABLE8)
MODES = (*QUANTIZED, TABLE8, FLOAT)


def check(mode: str) -> str:
    """The short text of a mode, or a ``LadderError`` that says how to write one."""
    if mode in (TABLE8, FLOAT):
        return mode
    short = {f"{m.element}:{m.granularity}": m.name for m in QUANTIZED.values()}
    if mode in QUANTIZED:
        return mode
    if mode not in short:
        elements = ", ".join(dict.fromkeys(m.element for m in QUANTIZED.values()))
        raise LadderError(
            f"unknown activation mode '{mode}'; one of: {elements}, each alone or with "
            f"{', '.join(f':{g}' for g in GRANULARITIES)}; or {TABLE8}, {FLOAT}"
        )
    return short[mode]


# Modes of written files only, with a zero point: codes 0..255. Each has the symmetric mode with the
# same granularity, by which outliers are found.
UINT8_TENSOR, UINT8_STATIC = "uint8:tensor", "uint8:static"
WITH_ZERO_POINT = {UINT8_TENSOR: "int8:tensor", UINT8_STATIC: "int8:static"}


def check_file_mode(mode: str) -> str:
    """The short text of a mode of written files: one of ``MODES`` or of ``WITH_ZERO_POINT``."""
    if mode == "uint8":
        return UINT8_TENSOR
    if mode in WITH_ZERO_POINT:
        return mode
    if mode.startswith("uint"):
        raise LadderError(
            f"unknown activation mode '{mode}'; unsigned ones: {', '.join(WITH_ZERO_POINT)}"
        )
    return check(mode)


def is_static(mode: str) -> bool:
    """Whether scales are found in calibration."""
    return mode.endswith(f":{STATIC}")


def parse_mode(mode: str) -> Activation:
    """Parse the text of an integer mode, or raise a ``LadderError``."""
    name = check(mode)
    if name not in QUANTIZED:
        raise LadderError(
            f"activation mode '{mode}' has no integer codes; give an integer mode, for example int8"
        )
    return QUANTIZED[name]


def table_mode(mode: str) -> str:
    """The mode of ``INTEGER_MODES`` with the same look-ups as ``mode``; only codes differ."""
    if mode in INTEGER_MODES:
        return mode
    return "int4" if QUANTIZED[mode].exact_tables_fit_a_byte else "int8"


def block_of(dtype: DType, mode: str, k: int) -> int:
    """The size of a product's scale blocks, for K in features.

    It is K if the weight and the activation both have one scale along K: then the whole sum is an
    integer, and one factor multiplies each output. The digits of a code book are added as floats.
    """
    kind = QUANTIZED.get(mode)
    narrow = kind is None or kind.granularity == BLOCK
    if narrow or dtype.levels or isinstance(dtype.group, int) or not fits_int32(mode, dtype, k):
        return dtype.block
    return k


def fits_int32(mode: str, dtype: DType, k: int) -> bool:
    """Whether a sum of K products fits an int32, for any codes."""
    largest = dtype.element.step * ((1 << dtype.bits) - 1)
    return int(QUANTIZED[mode].levels) * largest * k < 1 << 31


def overload(mode: str, block: int) -> str:
    """The overload of a dialect operator on activations: its mode and the size of scale blocks."""
    return f"k{block}" if mode in ("int8", TABLE8) else f"{mode}:k{block}"


def parse_overload(text: str) -> tuple[str, int]:
    """Undo ``overload``: (mode, size of scale blocks); an empty overload is ``int8``."""
    mode, _, block = text.rpartition(":")
    return mode or "int8", int(block.removeprefix("k"))
