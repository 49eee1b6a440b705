"""What the inner loops of kernels may cost: instructions for 256 weight bits, by kernel family.

A test compiles each kernel and counts (``ladder.codegen.inner_loop``), so that a compiler that
makes something else of a loop is noticed without the hardware. Light: no import of TVM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ladder.errors import LadderError

WEIGHT_BITS = 256  # that budgets are stated for
SUBJECT = "instructions for 256 weight bits"


@dataclass(frozen=True)
class Budget:
    """One kernel's inner loop.

    The loop is the one with the most instructions of kind ``loop``. Of kind ``anchor`` a kernel
    needs ``rate`` for 256 weight bits, by its definition: so many of them tell how many bits a
    pass through the loop is for, a multiple of ``step``. ``least_loads`` is what reading the
    weights alone takes; ``most`` the budget.
    """

    op: str
    type: str
    mode: str
    loop: str
    anchor: str
    rate: float
    step: int
    least_loads: float
    most: Mapping[str, float]

    @property
    def name(self) -> str:
        return f"{self.op} {self.type} {self.mode}"


def _lut(
    type: str, mode: str, anchor: str, rate: float, step: int, least: float, **most: float
) -> Budget:
    return Budget("lut_gemm", type, mode, "lookup", anchor, rate, step, least, most)


def _dot(type: str, rate: float, step: int, least: float, **most: float) -> Budget:
    """One token: the loop that unpacks codes and multiplies them."""
    return Budget("dot_gemm", type, "int8", "vector", "dot", rate, step, least, most)


# Least loads: a vector of weights has 256, 512 or 1024 bits. A chunk has 1024 weight bits in each
# bit plane; AVX2 goes through a loop once for each.
CHUNK = 1024
_AVX2 = (
    _lut(
        "int4:g128",
        "table8",
        "dot",
        2,
        CHUNK,
        1,
        load=3.5,
        lookup=4,
        dot=2,
        vector=10.5,
        prefetch=0.5,
    ),
    _lut("int4:g128", "int8", "lookup", 5, CHUNK, 1, load=4.5, lookup=5, vector=13, prefetch=0.5),
)
# A register of 16 bytes: the look-ups of 256 bits are four, of tables of two bytes eight.
_TBL8 = {"load": 2.25, "lookup": 4, "dot": 4, "vector": 8.5, "prefetch": 0.5}
_TBL16 = {"load": 4, "lookup": 8, "dot": 8, "vector": 10, "prefetch": 2}
# Unpacking for one token takes more registers than there are: part of it goes through the stack.
_SDOT = {"load": 2.25, "dot": 4, "vector": 17.5, "spill": 8.5, "prefetch": 1}
_NEON_DOTS = (
    _lut("int4:g128", "table8", "lookup", 4, CHUNK, 2, **_TBL8),
    _lut("int4:g128", "int8", "lookup", 8, WEIGHT_BITS, 2, **_TBL16),
    _dot("int4:g128", 4, 4 * CHUNK, 2, **_SDOT),
)
_TBL = {"load": 1.5, "lookup": 4, "vector": 12.5, "prefetch": 0.25}  # ld4 loads 64 bytes
_TBL_PAIRS = {"load": 2.5, "lookup": 8, "vector": 20.5, "spill": 0.5, "prefetch": 0.25}
_SMULL = {"load": 1.25, "dot": 4, "vector": 14.5, "spill": 1, "prefetch": 0.5}
BUDGETS: dict[str, tuple[Budget, ...]] = {
    "neon": (
        _lut("int4:g128", "table8", "lookup", 4, CHUNK, 0.5, **_TBL),
        _lut("int4:g128", "int8", "lookup", 8, CHUNK, 0.5, **_TBL_PAIRS),
        _dot("int4:g128", 4, 4 * CHUNK, 0.5, **_SMULL),
    ),
    "dotprod": _NEON_DOTS,
    "i8mm": _NEON_DOTS,
    "avx2": (
        *_AVX2,
        _dot("int4:g128", 4, 4 * CHUNK, 1, load=1.5, dot=4, vector=12, spill=4.5, prefetch=1),
    ),
    "avxvnni": _AVX2,
    "avx512": (
        _lut(
            "int2:g128",
            "table8",
            "lookup",
            1,
            2 * CHUNK,
            0.5,
            load=0.75,
            lookup=1,
            dot=1,
            vector=2.25,
            prefetch=0.5,
        ),
        _lut(
            "int4:g128",
            "table8",
            "lookup",
            1,
            4 * CHUNK,
            0.5,
            load=0.6,
            lookup=1,
            dot=1,
            vector=2.25,
            prefetch=0.5,
        ),
        _lut(
            "int4:g128",
            "int8",
            "lookup",
            2,
            4 * CHUNK,
            0.5,
            load=0.75,
            lookup=2,
            dot=2,
            vector=2.25,
            prefetch=0.5,
        ),
        _dot("int2:g128", 2, 2 * CHUNK, 0.5, load=1, dot=2, vector=4.5, prefetch=1),
        _dot("int4:g128", 1, 4 * CHUNK, 0.5, load=0.75, dot=1, vector=3.5, prefetch=1),
    ),
    "hvx": (
        _lut(
            "int2:g128",
            "table8",
            "lookup",
            1,
            2 * CHUNK,
            0.25,
            load=0.5,
            lookup=1,
            dot=0.5,
            vector=1.75,
        ),
        _lut(
            "int4:g128",
            "table8",
            "lookup",
            1,
            4 * CHUNK,
            0.25,
            load=0.375,
            lookup=1,
            dot=0.5,
            vector=1.5,
        ),
        _lut(
            "int4:g128", "int8", "lookup", 2, 4 * CHUNK, 0.25, load=0.375, lookup=2, dot=1, vector=2
        ),
        _dot("int4:g128", 0.5, 4 * CHUNK, 0.25, load=0.25, dot=0.5, vector=5.5),
    ),
}


def per_256_bits(budget: Budget, mix: Mapping[str, int]) -> dict[str, float]:
    """The mix of a loop for 256 weight bits; a ``LadderError`` where it cannot be this kernel's."""
    bits = mix.get(budget.anchor, 0) / budget.rate * WEIGHT_BITS
    if not bits or bits % budget.step:
        raise LadderError(
            f"{budget.name}: its inner loop has {mix.get(budget.anchor, 0)} {budget.anchor}, not "
            f"a multiple of {budget.rate * budget.step / WEIGHT_BITS:g}: {dict(mix)}"
        )
    return {kind: count * WEIGHT_BITS / bits for kind, count in mix.items()}


def check(budget: Budget, mix: Mapping[str, int], family: str) -> dict[str, float]:
    """Refuse a loop that costs more than its budget, with kernel and counts."""
    spent = per_256_bits(budget, mix)
    over = {kind: n for kind, n in spent.items() if n > budget.most.get(kind, 0)}
    if over or spent.get("load", 0) < budget.least_loads:
        counts = ", ".join(f"{n:.3g} {kind}" for kind, n in sorted(spent.items()))
        allowed = ", ".join(f"{n:g} {kind}" for kind, n in sorted(budget.most.items()))
        raise LadderError(
            f"{family} {budget.name}: {counts} in {SUBJECT}; its budget is {allowed}, at least "
            f"{budget.least_loads:g} load"
        )
    return spent
