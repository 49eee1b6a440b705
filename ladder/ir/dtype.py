"""Low-bit data types: element, group, scale type, zero point (the paper's tType)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ladder.errors import LadderError
from ladder.ir.element import ELEMENTS, Element, Levels, levels
from ladder.ir.scale import SCALE_TYPES, ScaleType
from ladder.support.suggest import did_you_mean

# What other tools call their types, and the nearest of ours; q4_0 and q8_0 are the same.
NAMES_ELSEWHERE = {
    "q2_k": "uint2:g16:fp16:zpf",
    "q3_k": "int3:g16:fp16",
    "q3_k_m": "int3:g16:fp16",
    "q4_k": "uint4:g32:fp16:zpf",
    "q4_k_s": "uint4:g32:fp16:zpf",
    "q4_k_m": "uint4:g32:fp16:zpf",
    "q5_k": "uint5:g32:fp16:zpf",
    "q5_k_m": "uint5:g32:fp16:zpf",
    "q6_k": "int6:g16:fp16",
    "tq2_0": "ternary:tensor",
    "awq": "uint4:g128:fp16:zp",
    "4bit": "int4:g128",
    "8bit": "int8:row",
    "fp4": "nvfp4",
    "fp8": "fp8_e4m3:row",
    "bf16": "fp16",
}
LARGEST_GROUP_AS_BLOCK = 256
DEFAULT_BLOCK = 32

FLOATS = {"fp32": 32, "fp16": 16}
SCALES = {name: kind.dtype for name, kind in SCALE_TYPES.items()}
ALIASES = {
    "mxfp4": "fp4_e2m1:g32:e8m0",
    "mxfp6": "fp6_e2m3:g32:e8m0",
    "mxfp8": "fp8_e4m3:g32:e8m0",
    "nvfp4": "fp4_e2m1:g16:e4m3",
    "bitnet": "ternary:tensor",
    "q4_0": "int4:g32:fp16",
    "q8_0": "int8:g32:fp16",
}
NO_ZERO, INTEGER_ZERO, FLOAT_ZERO, MINIMUM = "", "zp", "zpf", "min"
ZEROS = (INTEGER_ZERO, FLOAT_ZERO, MINIMUM)


@dataclass(frozen=True, repr=False)
class DType:
    """One stored low-bit type, for example ``int4:g128`` or ``fp4_e2m1:g32:e8m0``.

    ``group`` is the number of weights along K that share a scale: a positive number, ``"row"``
    (one scale per out feature) or ``"tensor"``. ``scale`` is the type that scales are stored in;
    ``e4m3`` scales have one more scale in fp32 for the whole tensor (NVFP4). ``zero`` is ``"zp"``
    (a code), ``"zpf"`` (a float of the scale's type, in units of codes) or ``"min"`` (the value of
    code 0, in the scale's type: a weight is code x scale + min) if the element needs one.
    Floats (``fp32``, ``fp16``) have no element.
    """

    name: str
    group: int | str = "tensor"
    zero: str = NO_ZERO
    scale: str = "fp32"

    @staticmethod
    def parse(text: str) -> DType:
        """Parse the text form; a ``LadderError`` says how to write a malformed one."""
        name, *parts = ALIASES.get(text.strip(), text.strip()).split(":")
        if name in FLOATS and not parts:
            return DType(name)
        if name in FLOATS:
            raise LadderError(f"type '{text}': {name} takes no group; write {name}")
        if name not in ELEMENTS:
            raise LadderError(
                f"unknown type '{text}': the element must be one of {known_elements()}{_near(text)}"
            )
        dtype = _with_parts(name, parts, text)
        _check_zero(dtype, text)
        return dtype

    def __str__(self) -> str:
        if self.is_float:
            return self.name
        group = f"g{self.group}" if isinstance(self.group, int) else self.group
        scale = [] if self.scale == "fp32" else [self.scale]
        return ":".join([self.name, group, *scale, *([self.zero] if self.zero else [])])

    def __repr__(self) -> str:
        return f"DType({str(self)!r})"

    @property
    def is_float(self) -> bool:
        return self.name in FLOATS

    @property
    def element(self) -> Element:
        return ELEMENTS[self.name]

    @property
    def levels(self) -> Levels | None:
        """The integer form of a code book; None if the codes are integers."""
        return levels(self.element.book) if self.element.book else None

    @property
    def zero_point(self) -> bool:
        """Whether zero points are stored with the scales."""
        return self.zero != NO_ZERO

    @property
    def scale_type(self) -> ScaleType:
        return SCALE_TYPES[self.scale]

    @property
    def tensor_scale(self) -> bool:
        """Whether there is one more scale, fp32, for the whole tensor."""
        return self.scale_type.of_tensor

    @property
    def zero_kind(self) -> np.dtype:
        """The NumPy type of a stored zero point: a byte, or the scale's float type."""
        return SCALES[self.scale] if self.float_zero else np.dtype(np.uint8)

    @property
    def float_zero(self) -> bool:
        """Whether zero points are stored as floats, like the scales."""
        return self.zero in (FLOAT_ZERO, MINIMUM)

    @property
    def minimum(self) -> bool:
        """Whether the zero point is added after scaling: a weight is code x scale + minimum."""
        return self.zero == MINIMUM

    @property
    def bits(self) -> int:
        """Bits of one code, without scales."""
        return FLOATS[self.name] if self.is_float else self.element.bits

    def group_size(self, k: int) -> int:
        """Weights along K that share a scale, for K in features."""
        return self.group if isinstance(self.group, int) else k

    def groups(self, k: int) -> int:
        """Number of scales along K."""
        return -(-k // self.group_size(k))

    def scale_shape(self, n: int, k: int) -> tuple[int, int]:
        """Shape of the scale (and zero point): [N, groups], or [1, 1] for one per tensor."""
        return (1, 1) if self.group == "tensor" else (n, self.groups(k))

    @property
    def block(self) -> int:
        """The size of a scale block, whose activations share a scale and are summed in integers.

        A scale block is always within one group. Types with one scale per row or tensor use scale
        blocks of 32, so that an outlier activation affects only its own block.
        """
        if not isinstance(self.group, int):
            return DEFAULT_BLOCK
        if self.group > LARGEST_GROUP_AS_BLOCK and self.group % DEFAULT_BLOCK == 0:
            return DEFAULT_BLOCK
        return self.group

    def stored_bits(self, n: int, k: int) -> float:
        """Bits that a weight [N, K] takes with its scales and zero points."""
        if self.is_float:
            return n * k * self.bits
        scale = int(SCALES[self.scale].itemsize) * 8
        zero = int(self.zero_kind.itemsize) * 8 if self.zero_point else 0
        rows, columns = self.scale_shape(n, k)
        with_scales = rows * columns * (scale + zero)
        return n * k * self.element.stored_bits + with_scales + (32 if self.tensor_scale else 0)

    def bits_per_weight(self, n: int, k: int) -> float:
        """Stored bits per weight of a matrix [N, K], scales and zero points included."""
        return self.stored_bits(n, k) / (n * k)


def _near(text: str) -> str:
    """What was probably meant by a text that names no type."""
    known = [f"{name}:{group}" for name in ELEMENTS for group in ("g32", "g64", "g128", "row")]
    return did_you_mean(text, [*known, *ALIASES], NAMES_ELSEWHERE)


def _with_parts(name: str, parts: list[str], text: str) -> DType:
    """The parts after the element: a group, and optionally a scale type and a zero point."""
    group: int | str | None = None
    zero, scale = NO_ZERO, ""
    for part in parts:
        if part in ZEROS:
            zero = part
        elif part in SCALES:
            if scale:
                raise LadderError(f"type '{text}' names two scale types; write one of them")
            scale = part
        elif part in ("row", "tensor") or re.fullmatch(r"g-?[0-9]{1,9}", part):
            if group is not None:
                raise LadderError(f"type '{text}' names two groups; write one of them")
            group = _group(part, text)
        else:
            raise LadderError(
                f"unknown type '{text}': '{part}' is not a group, a scale type "
                f"({', '.join(SCALES)}) or a zero point; write for example {name}:g128"
            )
    if group is None:
        raise LadderError(f"type '{text}' names no group; write {name}:g128 or {name}:row")
    return DType(name, group, zero, scale or "fp32")


def _check_zero(dtype: DType, text: str) -> None:
    name, signed = dtype.name, dtype.element.signed
    if dtype.zero_point and dtype.element.book:
        raise LadderError(f"type '{text}': {name} is a code book and has no zero point")
    if dtype.zero_point == signed:
        verb = "has no" if signed else "needs a"
        hint = f"{text}:zp"
        if signed:
            hint = f"u{name}:...:zp" if name.startswith("int") else f"{name}:g64"
        raise LadderError(f"type '{text}': {name} {verb} zero point; write {hint}")
    if dtype.float_zero and not dtype.scale_type.fine:
        raise LadderError(
            f"type '{text}': a float zero point is stored like the scale, and {dtype.scale} is "
            "too coarse for one; use fp32, fp16 or bf16 scales"
        )


def _group(part: str, text: str) -> int | str:
    if part in ("row", "tensor"):
        return part
    size = int(part.removeprefix("g"))
    if size <= 0:
        raise LadderError(f"type '{text}': the group must be positive; write for example g128")
    return size


def known_elements() -> str:
    """The element names, for messages and help."""
    return ", ".join([*ELEMENTS, *FLOATS])
