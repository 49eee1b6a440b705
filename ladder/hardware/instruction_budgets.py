"""Limits for the inner loops of kernels: instructions per 256 weight bits, by kernel family.

A test compiles every kernel and counts (``ladder.codegen.inner_loop``), so that a regression in
generated loops is caught without the hardware. Light: TVM is not imported.

A kernel has one loop or three. ``lut_gemm`` has *table8* or *int8*: look-ups in tables with entries
of one byte or two. ``dot_gemm`` has *one*: a single token, codes unpacked and multiplied in
registers; *unpack*: the codes of a scale block are unpacked to memory; *more*: several tokens are
multiplied with them, counted per token and 256 bits of unpacked codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ladder.errors import LadderError

WEIGHT_BITS = 256  # the unit of budgets
SUBJECT = "instructions for 256 weight bits"
BITS = tuple(f"int{bits}:g128" for bits in range(1, 9))
# Five scale blocks of two chunks: the longest run that one token multiplies at once.
SHARED_BYTES = "ternary:g32"
BOOKS = ("fp4_e2m1:g128", "nf4:g128", "fp8_e5m2:g128")  # of one, two and three digits
# Loops differ by bits and digits of a type only: zero points and scales are applied outside.
TYPES = (*BITS, SHARED_BYTES, *BOOKS)
STORED_BITS = {SHARED_BYTES: 1.6}  # where they differ from the bits of a code
Cost = float | Sequence[float | None]  # for all types, or for each in the order of ``TYPES``
Anchor = tuple[str, float]


@dataclass(frozen=True)
class Family:
    """A kernel family: bytes of a register, codes that one multiplication takes, and the
    instructions that the two look-up loops need per 256 weight bits, by their definition."""

    register: int
    codes: int
    table8: Anchor
    int8: Anchor


_TBL = ("lookup", 4), ("lookup", 8)  # 16 look-ups of 4 bits
_VPERMB = ("lookup", 1), ("lookup", 2)  # 64
_VPSHUFB = ("dot", 2), ("lookup", 5)  # 32; four more gather the bytes of a table group
FAMILIES = {
    "neon": Family(16, 8, *_TBL),
    "dotprod": Family(16, 16, *_TBL),
    "i8mm": Family(16, 16, *_TBL),
    "avx2": Family(32, 16, *_VPSHUFB),
    "avxvnni": Family(32, 32, *_VPSHUFB),
    "avx512": Family(64, 64, *_VPERMB),
    "hvx": Family(128, 128, *_VPERMB),  # vlut32 does 128 look-ups, but in half a table
}

# The most that a loop may cost, 0 for kinds that are not named. None: there is no such loop (large
# code books have none for a single token), or LLVM split it.
# fmt: off
BUDGETS: dict[str, dict[str, dict[str, Cost]]] = {
    "neon": {
        "table8": {"load": 3.25, "lookup": 4, "vector": 13},
        "int8": {"load": 4.25, "lookup": 8, "vector": 21.5,
            "spill": (1.6, 0, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6)},
        "one": {"load": (3.25, 2.75, 2.5, 2.5, 2.25, 2.25, 2.25, 2.25, 4.25, 2.25, 2.25, None),
            "lookup": (0, 0, 0, 0, 0, 0, 0, 0, 0, 4.25, 8.5, None),
            "vector": (80, 44, 39.5, 29, 35.5, 32, 26, 27.5, 102, 30, 44, None),
            "spill": (0, 0, 3, 2, 7.25, 4, 3.25, 3.25, 40.5, 5.75, 17, None),
            "float": (0, 0, 0, 0, 0, 0, 0, 0, 5.25, 0, 0, None),
            "store": (0, 0, 0, 0, 0, 0, 0, 0, 1.3, 0, 0, None)},
        "unpack": {
            "load": (2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 10),
            "lookup": (0, 0, 0, 0, 0, 0, 0, 0, 0, 4.25, 8.5, 24.5),
            "vector": (31, 18.5, 22.5, 15.5, 26, 22.5, 22.5, 17.5, 72.5, 16, 21, 9.5),
            "spill": (0, 0, 0, 0, 6.25, 5, 6, 4, 9, 0, 0.7, 5.25)},
        "more": {"load": 1.3, "vector": 5.25, "spill": 1.4},
    },
    "dotprod": {
        "table8": {"lookup": 4, "dot": 4,
            "load": (3.5, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25),
            "vector": (8, 10.5, 8.5, 8.5, 8.5, 8.5, 8.5, 9.5),
            "spill": (0.8, 0.6, 0, 0, 0, 0, 0, 0.6)},
        "int8": {"load": (12.5, 8.5, 4, 4, 4, 4, 4, 4), "lookup": 8,
            "dot": 8, "vector": 10.5},
        "one": {"load": (2.75, 2.5, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 4.25, 2.25, 2.25, None),
            "lookup": (0, 0, 0, 0, 0, 0, 0, 0, 0, 4.25, 8.5, None),
            "vector": (31, 19, 21.5, 15, 21.5, 19, 18.5, 16.5, 76, 16, 17, None),
            "spill": (0, 0, 0, 0, 0, 0.1, 0.3, 0, 22, 0, 0.3, None),
            "float": (0, 0, 0, 0, 0, 0, 0, 0, 5.25, 0, 0, None),
            "store": (0, 0, 0, 0, 0, 0, 0, 0, 1.3, 0, 0, None)},
        "unpack": {
            "load": (2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 10),
            "lookup": (0, 0, 0, 0, 0, 0, 0, 0, 0, 4.25, 8.5, 24.5),
            "vector": (31, 18.5, 22, 15.5, 25, 22.5, 21.5, 17.5, 72.5, 16, 21, 9.5),
            "spill": (0, 0, 0, 0, 5.5, 4.5, 5.5, 4, 9, 0, 0.7, 1.1)},
        "more": {"load": 1.3},
    },
    "i8mm": {
        "table8": {"lookup": 4, "dot": 4, "vector": 8.5,
            "load": (3.5, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25)},
        "int8": {"load": (12.5, 8.5, 4, 4, 4, 4, 4, 4), "lookup": 8,
            "dot": 8, "vector": 10.5},
        "one": {"load": (2.75, 2.5, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 4.25, 2.25, 2.25, None),
            "lookup": (0, 0, 0, 0, 0, 0, 0, 0, 0, 4.25, 8.5, None),
            "vector": (31, 20.5, 22, 17, 24, 19.5, 18.5, 16.5, 77.5, 16.5, 17.5, None),
            "spill": (0, 0, 0, 0.3, 3.75, 2.75, 0.2, 1.3, 16.5, 0.3, 3.5, None),
            "float": (0, 0, 0, 0, 0, 0, 0, 0, 5.25, 0, 0, None),
            "store": (0, 0, 0, 0, 0, 0, 0, 0, 1.3, 0, 0, None)},
        "unpack": {
            "load": (2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 2.25, 9.5),
            "lookup": (0, 0, 0, 0, 0, 0, 0, 0, 0, 4.25, 8.5, 13.5),
            "vector": (31, 18.5, 22.5, 16.5, 25, 21, 22.5, 15.5, 67.5, 16.5, 20, 6.5),
            "spill": (0, 0, 0, 0, 4, 3.5, 3.5, 4.25, 0.3, 0, 1.5, 2.25)},
        "more": {"load": 1.6},
    },
    "avx2": {
        "table8": {"load": 3.75, "lookup": 4, "dot": 2.25, "vector": 11,
            "spill": (1.1, 1.1, 1.1, 0, 1.1, 1.1, 1.1, 1.1)},
        "int8": {"load": 4.75, "lookup": 5, "vector": 14, "spill": (0, 1.1, 0, 0, 0, 0, 0, 0)},
        "one": {"load": (2.25, 1.6, 1.5, 1.4, 1.4, 1.3, 1.3, 1.2, 9.5, None, None, None),
            "vector": (23, 11.5, 14.5, 12, 16, 14, 13.5, 16, 25.5, None, None, None),
            "spill": (2.25, 5, 5.75, 4.5, 6.75, 6.25, 6.75, 7, 13, None, None, None),
            "float": (0, 0, 0, 0, 0, 0, 0, 0, 2.75, None, None, None),
            "store": (0, 0, 0, 0, 0, 0, 0, 0, 0.7, None, None, None)},
        "unpack": {"load": (1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 5, 1.1, 1.1, 2.25),
            "lookup": (0, 0, 0, 0, 0, 0, 0, 0, 0, 2.25, 4.25, 49),
            "vector": (15.5, 11.5, 13, 9.5, 11, 10.5, 9, 8.5, 26.5, 8, 11, 44.5),
            "spill": (0, 0, 1.2, 2.75, 9.5, 9, 10, 9.5, 1.1, 5.75, 3.75, 72.5)},
        "more": {"load": 0.8, "vector": (0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 3, 0.9, 3, 3, 3),
            "spill": (0.3, 0.4, 0.6, 0.4, 0.6, 0.6, 0.6, 2, 0.4, 1.9, 2.25, 2.25)},
    },
    "avxvnni": {
        "table8": {"load": 3.75, "lookup": 4, "dot": 2.25, "vector": 10,
            "spill": (0.6, 0, 1.1, 0, 1.1, 1.1, 1.1, 1.1)},
        "int8": {"load": 4.5, "lookup": 5, "vector": 13.5},
        "one": {"load": (3.25, 2.25, 1.8, 1.6, 1.5, 1.4, 1.4, 1.3, 7.5, None, None, None),
            "vector": (15.5, 11.5, 13.5, 11.5, 12.5, 11.5, 12, 11, 24.5, None, None, None),
            "spill": (0, 0, 1.4, 0.9, 7.5, 5.25, 5, 5.75, 13.5, None, None, None),
            "float": (0, 0, 0, 0, 0, 0, 0, 0, 2.75, None, None, None),
            "store": (0, 0, 0, 0, 0, 0, 0, 0, 0.7, None, None, None)},
        "unpack": {"load": (1.1, 1.1, 1.1, None, 1.1, 1.1, 1.1, 1.1, 5.5, 1.1, 1.1, 2.25),
            "lookup": (0, 0, 0, None, 0, 0, 0, 0, 0, 2, 4.25, 49),
            "vector": (15.5, 11.5, 13, None, 10, 10.5, 9.5, 8.5, 28, 8, 7.5, 42),
            "spill": (0, 0, 1.8, None, 10, 9, 9.5, 9.5, 1.6, 5.75, 7.25, 85)},
        "more": {"load": (0.8, 0.8, 0.8, 0.2, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8),
            "spill": (0, 0, 0, 1.1, 0, 0, 0, 0, 0, 0, 0, 0)},
    },
    "avx512": {
        "table8": {"load": 0.8, "lookup": 1, "dot": 1, "vector": 2.25},
        "int8": {"load": (1.1, 0.8, 0.7, 0.7, 0.7, 0.6, 0.6, 0.6), "lookup": 2, "dot": 2.25,
            "vector": 2.25},
        "one": {"load": (1.6, 1.1, 0.9, 0.8, 0.8, 0.7, 0.7, 0.7, 1.4, 0.8, 0.8, 0.9),
            "lookup": (0, 0, 0, 0, 0, 0, 0, 0, 3.25, 1.1, 2.25, 3.25),
            "vector": (7.75, 4.75, 5, 3.75, 4.75, 4, 3.75, 3.25, 1.7, 3.75, 3.75, 8),
            "spill": (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1.2),
            "float": (0, 0, 0, 0, 0, 0, 0, 0, 1.3, 0, 0, 0),
            "store": (0, 0, 0, 0, 0, 0, 0, 0, 0.4, 0, 0, 0)},
        "unpack": {"load": 0.6, "lookup": (0, 0, 0, 0, 0, 0, 0, 0, 3.25, 1.1, 2.25, 3.25),
            "vector": (7.75, 4.75, 5, 3.75, 4.75, 4, 3.75, 3.25, 1.1, 3.75, 3.75, 7.75)},
        "more": {"load": 0.3, "spill": 0.04},
    },
    "hvx": {
        "table8": {"load": 0.6, "lookup": 1, "dot": 0.5, "vector": 1.6},
        "int8": {"load": 0.6, "lookup": 2, "dot": 1, "vector": 2.25},
        "one": {"load": (0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 2.75, None, None, None),
            "vector": (5, 5.5, 5.75, 5.75, 5.75, 5.75, 5.75, 5.75, 39, None, None, None),
            "store": (0, 0, 0, 0, 0, 0, 0, 0, 6.5, None, None, None)},
    },
}
# fmt: on


def anchor_of(family: str, loop: str, type: str, bits: int, digits: int) -> Anchor:
    """(kind, count) that the loop needs per 256 weight bits, which says how much one pass covers.

    ``bits`` is the width of a code, ``digits`` the digits of a code book (1 for other types).
    """
    facts = FAMILIES[family]
    if loop in ("table8", "int8"):
        return facts.table8 if loop == "table8" else facts.int8
    if loop == "more":
        return "dot", WEIGHT_BITS / 8 / facts.codes
    codes = WEIGHT_BITS / STORED_BITS.get(type, bits) * digits
    return ("dot", codes / facts.codes) if loop == "one" else ("store", codes / facts.register)


def budget_of(family: str, loop: str, type: str) -> dict[str, float] | None:
    """The limit for each kind; None if the family has no such loop for the type."""
    at = TYPES.index(type)
    if loop in ("table8", "int8") and type not in BITS:
        return None
    most = {}
    for kind, cost in BUDGETS[family].get(loop, {}).items():
        value = cost if isinstance(cost, float | int) else cost[at]
        if value is None:
            return None
        most[kind] = float(value)
    return most or None


def check(
    family: str, loop: str, type: str, anchor: Anchor, mix: Mapping[str, int]
) -> dict[str, float]:
    """Refuse a loop over its budget; return its costs per 256 weight bits."""
    kind, rate = anchor
    name, most = f"{family} {loop} {type}", budget_of(family, loop, type) or {}
    bits = mix.get(kind, 0) / rate * WEIGHT_BITS
    if bits < WEIGHT_BITS:
        raise LadderError(f"{name}: no inner loop with {rate:g} {kind} in it: {dict(mix)}")
    spent = {kind: count * WEIGHT_BITS / bits for kind, count in mix.items() if kind != "prefetch"}
    over = {k: n for k, n in spent.items() if k != kind and n > most.get(k, 0)}
    least = WEIGHT_BITS / 8 / FAMILIES[family].register if loop != "more" else 0
    if over or spent.get("load", 0) < least:
        counts = ", ".join(f"{n:.3g} {k}" for k, n in sorted(spent.items()))
        allowed = ", ".join(f"{n:g} {k}" for k, n in sorted(most.items()))
        raise LadderError(
            f"{name}: {counts} in {SUBJECT}; its budget is {allowed}, at least {least:g} load"
        )
    return spent
