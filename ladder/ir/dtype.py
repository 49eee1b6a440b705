"""Low-bit data types: element, granularity of the scale, zero point (Ladder's tType)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError

SCALE_BITS = 32  # scales are stored as float32
LARGEST_GROUP_AS_BLOCK = 256
DEFAULT_BLOCK = 32


@dataclass(frozen=True)
class Element:
    """The stored number: its name, its width in bits and the range of its codes."""

    name: str
    bits: int
    low: int
    high: int

    @property
    def signed(self) -> bool:
        return self.low < 0

    @property
    def offset(self) -> int:
        """What is added to a code to make it unsigned (0 for unsigned elements)."""
        return -self.low

    @property
    def onnx(self) -> ir.DataType:
        """The ONNX type that holds one code: packed where ONNX has it, else a byte."""
        exact = f"{'INT' if self.signed else 'UINT'}{self.bits}"
        container = "INT8" if self.signed else "UINT8"
        return ir.DataType[exact if self.bits in (2, 4, 8) else container]


def _integer(bits: int, signed: bool) -> Element:
    low = -(1 << (bits - 1)) if signed else 0
    return Element(f"{'' if signed else 'u'}int{bits}", bits, low, low + (1 << bits) - 1)


ELEMENTS = {e.name: e for s in (True, False) for b in range(2, 9) for e in (_integer(b, s),)}
FLOATS = {"fp32": 32, "fp16": 16}


@dataclass(frozen=True)
class DType:
    """One stored low-bit type, for example ``int4:g128`` or ``uint4:g32:zp``.

    ``group`` is the number of weights along K that share a scale: a positive number, ``"row"``
    (one scale per output feature) or ``"tensor"``. Floats (``fp32``, ``fp16``) have no element.
    """

    name: str
    group: int | str = "tensor"
    zero_point: bool = False

    @staticmethod
    def parse(text: str) -> DType:
        """Read the text form; a malformed one is a ``LadderError`` that says how to write it."""
        name, *parts = text.strip().split(":")
        if name in FLOATS and not parts:
            return DType(name)
        if name in FLOATS:
            raise LadderError(f"type '{text}': {name} takes no group; write {name}")
        if name not in ELEMENTS:
            raise LadderError(f"unknown type '{text}': the element is one of {known_elements()}")
        group: int | str | None = None
        zero_point = False
        for part in parts:
            if part == "zp":
                zero_point = True
            elif part in ("row", "tensor") or re.fullmatch(r"g-?\d+", part):
                if group is not None:
                    raise LadderError(f"type '{text}' names two groups; write one of them")
                group = _group(part, text)
            else:
                raise LadderError(
                    f"unknown type '{text}': '{part}' is not a group; write for example {name}:g128"
                )
        if group is None:
            raise LadderError(f"type '{text}' names no group; write {name}:g128 or {name}:row")
        if zero_point == ELEMENTS[name].signed:
            verb = "has no" if zero_point else "needs a"
            hint = f"u{name}:...:zp" if zero_point else f"{text}:zp"
            raise LadderError(f"type '{text}': {name} {verb} zero point; write {hint}")
        return DType(name, group, zero_point)

    def __str__(self) -> str:
        if self.is_float:
            return self.name
        group = f"g{self.group}" if isinstance(self.group, int) else self.group
        return ":".join([self.name, group, *(["zp"] if self.zero_point else [])])

    @property
    def is_float(self) -> bool:
        return self.name in FLOATS

    @property
    def element(self) -> Element:
        return ELEMENTS[self.name]

    @property
    def bits(self) -> int:
        """Bits of one stored code, without scales."""
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
        """The K-block: activations of one block share a scale and are summed in integers.

        A block never straddles two weight groups. Types with one scale per row or tensor use
        blocks of 32, so that an outlier activation spoils its own block only.
        """
        if not isinstance(self.group, int):
            return DEFAULT_BLOCK
        if self.group > LARGEST_GROUP_AS_BLOCK and self.group % DEFAULT_BLOCK == 0:
            return DEFAULT_BLOCK
        return self.group

    def stored_bits(self, n: int, k: int) -> int:
        """Bits that an [N, K] weight takes with its scales and zero points."""
        if self.is_float:
            return n * k * self.bits
        scales = int(np.prod(self.scale_shape(n, k)))
        return n * k * self.bits + scales * (SCALE_BITS + (8 if self.zero_point else 0))

    def bits_per_weight(self, n: int, k: int) -> float:
        """Stored bits per weight of an [N, K] matrix, scales and zero points counted."""
        return self.stored_bits(n, k) / (n * k)


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
