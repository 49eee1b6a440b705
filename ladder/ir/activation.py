"""Numeric modes of activations: what a product rounds its activations to."""

from __future__ import annotations

from dataclasses import dataclass

from ladder.errors import LadderError


@dataclass(frozen=True)
class Activation:
    """One mode. ``bits`` of a code; ``per_token``: one scale a token, else one a K-block too."""

    name: str
    bits: int
    per_token: bool
    what: str

    @property
    def exact_tables_fit_a_byte(self) -> bool:
        """Whether the sum of four codes fits int8, so that tables need no second byte."""
        return self.bits < 8


TABLE8, FLOAT = "table8", "fp32"
QUANTIZED = {
    mode.name: mode
    for mode in (
        Activation("int8", 8, False, "int8 codes, one scale a token and K-block"),
        Activation("int4", 4, True, "int4 codes -7..7, one scale a token"),
        Activation("int2", 2, True, "int2 codes -1..1, one scale a token"),
    )
}
WHAT = {
    **{name: mode.what for name, mode in QUANTIZED.items()},
    TABLE8: "tables of four activations, rounded to int8 (integer types only)",
    FLOAT: "activations stay as they are; the slow kernel decodes weights",
}
INTEGER_MODES = (*QUANTIZED, TABLE8)
MODES = (*INTEGER_MODES, FLOAT)


def check(mode: str) -> str:
    """The mode, or a ``LadderError`` that lists those there are."""
    if mode not in MODES:
        raise LadderError(f"unknown activation mode '{mode}'; one of: {', '.join(MODES)}")
    return mode


def overload(mode: str, block: int) -> str:
    """How a dialect operator on activations spells its mode and K-block."""
    return f"k{block}" if mode in ("int8", TABLE8) else f"{mode}:k{block}"


def parse_overload(text: str) -> tuple[str, int]:
    """Undo ``overload``: (mode, block); ``int8`` where none is spelled."""
    mode, _, block = text.rpartition(":")
    return mode or "int8", int(block.removeprefix("k"))
