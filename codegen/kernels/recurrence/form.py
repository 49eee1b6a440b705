"""What the kernels of recurrent operators know of a processor, and their parameters.

An instance of a kernel has fixed shapes. Its last parameters are the state before the call, the
output, and the state after it; the first is also the last if the state is changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.float_math import Plus
from ladder.codegen.kernels.parameters import Arguments, declare
from ladder.codegen.kernels.signature import Operand, Shape
from ladder.codegen.kernels.vector import fused_product, plus_product

PAST, OUT, PRESENT = "past", "out", "present"


@dataclass(frozen=True)
class Form:
    """The vector registers of a kernel family: floats in one, their number; whether it has FMA."""

    width: int
    registers: int
    fused: bool = True

    @property
    def plus(self) -> Plus:
        """a + b * c in the most exact way that is one instruction or two."""
        return fused_product if self.fused else plus_product

    def block(self, size: int, sums: int, most: int = 64) -> int:
        """How many neighbours of ``size`` are computed together, if each takes ``sums`` registers'
        lanes: a power of two that divides ``size``."""
        room = self.width * self.registers * 5 // 8 // sums
        return gcd(size, most, 1 << max(room.bit_length() - 1, 0))


FORMS = {
    "portable": Form(4, 16, fused=False),
    **dict.fromkeys(("avx2", "avxvnni"), Form(8, 16)),
    **dict.fromkeys(("avx512", "amx"), Form(16, 32)),
    **dict.fromkeys(("neon", "dotprod", "i8mm"), Form(4, 32)),
}


@dataclass(frozen=True)
class State:
    """A state [..], and whether the kernel changes it in place."""

    shape: Shape
    in_place: bool

    def name(self, op: str, *sizes: int | str) -> str:
        """The name of a kernel of this state: it contains everything that is compiled in."""
        parts = [op, *("x".join(map(str, self.shape)), *map(str, sizes))]
        return "_".join([*parts, *(["copied"] if not self.in_place else [])])

    def declare(self, read: Sequence[Operand], out: Shape) -> Arguments:
        """Declare the parameters; ``past`` and ``present`` may be one buffer."""
        floats = "float32"
        args = declare(
            (
                *read,
                Operand(PAST, self.shape, floats),
                Operand(OUT, out, floats, written=True),
                Operand(PRESENT, self.shape, floats, when=not self.in_place, written=True),
            )
        )
        if self.in_place:
            args.present = args.past
        return args


def floats(name: str, *shape: int, when: bool = True) -> Operand:
    """An operand that is read."""
    return Operand(name, shape, "float32", when)


def flat(buffer: Any) -> Any:
    """The same memory with one axis."""
    size = prod(int(dim) for dim in buffer.shape)
    return T.decl_buffer((size,), "float32", data=buffer.data)


def tokens_loop(tokens: int) -> Any:
    """The loop over channels: one token is too little work for several threads."""
    return T.parallel if tokens > 1 else T.serial
