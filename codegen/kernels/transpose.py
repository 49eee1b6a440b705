"""A matrix is transposed in tiles of 16 by 16, in registers."""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.vector import Expr, lanes, shuffle
from ladder.codegen.layout import LANES

HALF = LANES // 2
LOW = [i // 2 + i % 2 * LANES for i in range(LANES)]  # lanes of two vectors in turn
HIGH = [i + HALF for i in LOW]


@cache
def transpose(rows: int, columns: int) -> Any:
    """x [rows, columns] float32 -> [columns, rows]."""
    name = f"transpose_{rows}x{columns}"
    down, across = rows // LANES, columns // LANES

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel(  # type: ignore[no-untyped-def]
        x: T.Buffer((rows, columns), "float32"),  # type: ignore[valid-type]
        out: T.Buffer((columns, rows), "float32"),  # type: ignore[valid-type]
    ):
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        for j in T.parallel(across):
            for i in T.serial(down):
                _tile(x, out, i * LANES, j * LANES)
            for c in T.serial(LANES):
                for r in T.serial(rows % LANES):
                    out[j * LANES + c, down * LANES + r] = x[down * LANES + r, j * LANES + c]
        for c in T.serial(columns % LANES):
            for r in T.serial(rows):
                out[across * LANES + c, r] = x[r, across * LANES + c]

    return kernel


def _tile(x: Any, out: Any, row: Expr, column: Expr) -> None:
    """Emit a tile: in each of four rounds, vectors i and i + 8 become 2 i and 2 i + 1."""
    # Each buffer is small enough for the stack, where LLVM turns it into registers.
    before, after = ([T.alloc_buffer((HALF, LANES), "float32") for _ in "ab"] for _ in "ab")
    for i in range(LANES):
        T.buffer_store(before[i // HALF], x[row + i, lanes(column)], [i % HALF, lanes(0)])
    for _ in range(4):
        for i in range(HALF):
            pair = [part[i, lanes(0)] for part in before]
            for place, order in ((2 * i, LOW), (2 * i + 1, HIGH)):
                to = after[place // HALF]
                T.buffer_store(to, shuffle(pair, order), [place % HALF, lanes(0)])
        before, after = after, before
    for i in range(LANES):
        T.buffer_store(out, before[i // HALF][i % HALF, lanes(0)], [column + i, lanes(row)])
