"""Intel AMX: matrix tiles and their int8 products, with a function for each instruction.

Matrix tiles 0 to 3 hold the sums of up to 16 tokens by 64 rows, tile 4 holds activation codes, and
tile 5 the codes of 16 rows, with quads in rows as unpacking writes them. A thread configures its
tiles before it uses them and releases them afterwards.
"""

from __future__ import annotations

from tvm.script import tirx as T

from ladder.codegen.kernels.vector import Expr
from ladder.codegen.layout import LANES

TOKENS = 16  # rows of a matrix tile
QUADS = 16  # of K that one instruction multiplies
SUMS, ACTIVATIONS, CODES = (0, 1, 2, 3), 4, 5
LINE = 4 * LANES  # bytes of a row of sums or codes
# The operand of LDTILECFG (Intel SDM volume 1, 18.2): palette 1, bytes of a row, rows.
CONFIG_BYTES, PALETTE, WIDTHS_AT, ROWS_AT = 64, 1, 16, 48


def _run(name: str, *operands: Expr) -> Expr:
    """An instruction without a result."""
    which = T.llvm_lookup_intrinsic_id(f"llvm.x86.{name}")
    return T.call_llvm_intrin(which, *operands, dtype="void")


@T.inline
def configure(config, tokens, quads):  # type: ignore[no-untyped-def]
    """Configure tiles for ``tokens`` tokens and ``quads`` quads; ``config`` is uint8 [64]."""
    for i in T.serial(CONFIG_BYTES):
        config[i] = T.uint8(0)
    config[0] = T.uint8(PALETTE)
    for tile in T.unroll(CODES + 1):
        config[WIDTHS_AT + 2 * tile] = T.uint8(LINE)
        config[ROWS_AT + tile] = T.cast(tokens, "uint8")
    config[WIDTHS_AT + 2 * ACTIVATIONS] = T.uint8(quads * 4)
    config[ROWS_AT + CODES] = T.uint8(quads)
    T.evaluate(_run("ldtilecfg", T.address_of(config[0])))


def release() -> Expr:
    """Release the tiles."""
    return _run("tilerelease")


def clear(tile: Expr) -> Expr:
    """Set a tile to zeros."""
    return _run("tilezero", T.int8(tile))


def load(tile: Expr, first: Expr, stride: int) -> Expr:
    """Load a tile from memory: rows ``stride`` bytes apart, from the element ``first`` on."""
    return _run("tileloadd64", T.int8(tile), T.address_of(first), T.int64(stride))


def store(tile: Expr, first: Expr, stride: int) -> Expr:
    """Store a tile to memory, as ``load`` reads it."""
    return _run("tilestored64", T.int8(tile), T.address_of(first), T.int64(stride))


def multiply(sums: Expr, signed: bool) -> Expr:
    """int32 sums plus the products of int8 activations with codes, signed bytes or unsigned."""
    name = "tdpbssd" if signed else "tdpbsud"
    return _run(name, T.int8(sums), T.int8(ACTIVATIONS), T.int8(CODES))
