"""Kernels for Hexagon as an object file and a C header, to link into a library that is called
through FastRPC, or into any program for the DSP.

Functions take pointers and sizes and need nothing but ``memcpy`` and ``memset``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tvm

from ladder.codegen.kernels import hvx
from ladder.codegen.kernels.scalar_activation import exact_tables, quantize_activation, table8
from ladder.codegen.kernels.signature import (
    TABLES,
    Operands,
    exact_tables_operands,
    scalar_activation_operands,
)
from ladder.codegen.layout import CHUNK, TILE, Packing
from ladder.codegen.plain_c import CFunction, plain_c
from ladder.errors import LadderError
from ladder.ir.activation import TABLE8
from ladder.ir.dtype import DType

OBJECT, HEADER = "ladder_kernels.o", "ladder_kernels.h"
HEAD = f"""\
/* Low-bit products on Hexagon HVX ({{cpu}}), made by Ladder.

   out [M, N] = x [M, K] by weights [N, K] in one of the types below, bit for bit as on Ladder's
   other targets. M tokens, N out features, K in features; B blocks of K, C chunks of 16 of K,
   NT tiles of 64 rows, S = B where scales differ from block to block, else 1. `planes`, `w_scale`
   and `zero` are the tensors NAME.planes, NAME.row_scale and NAME.row_zero of an artifact.

   int8 activations:   quantize_activation, then dot_gemm_hvx_TYPE,
                       or exact_tables, then lut_gemm_hvx_int8_TYPE: the same bits
   table8 activations: table8, then lut_gemm_hvx_table8_TYPE

   Buffers begin at multiples of {hvx.BYTES} bytes, and have room up to the next one. */

#ifndef LADDER_KERNELS_H
#define LADDER_KERNELS_H

#include <stdint.h>

#define LADDER_TILES(N) (((N) + {TILE - 1}) / {TILE})                        /* NT */
#define LADDER_BLOCKS(K, block) (((K) + (block) - 1) / (block))       /* B */
#define LADDER_CHUNKS(K, block) /* C */ \\
  ((K) / (block) * (((block) + {CHUNK - 1}) / {CHUNK}) + ((K) % (block) + {CHUNK - 1}) / {CHUNK})

#ifdef __cplusplus
extern "C" {{{{
#endif

"""
TAIL = """\
#ifdef __cplusplus
}
#endif

#endif
"""


WHY_NOT = "code books have none on Hexagon"


def without_kernels(types: Sequence[DType]) -> list[DType]:
    """The types among ``types`` that have no kernel."""
    return [dtype for dtype in types if dtype.element.book]


def build_hexagon(target: dict[str, Any], types: Sequence[DType], folder: Path) -> list[CFunction]:
    """Write the object file and header of the kernels of ``types`` into ``folder``."""
    for dtype in without_kernels(types):
        raise LadderError(f"type '{dtype}' has no kernel: {WHY_NOT}; integer types have: int4:g64")
    functions: dict[str, Any] = {}
    described: list[CFunction] = []
    text = HEAD.format(cpu=target["mcpu"])
    for packing in dict.fromkeys(Packing.of(dtype) for dtype in types):
        text += f"/* {', '.join(str(t) for t in types if Packing.of(t) == packing)} */\n\n"
        for func, operands in _kernels(packing):
            made, function = plain_c(func, operands)
            if function.name not in functions:
                functions[function.name] = made
                described.append(function)
                text += f"{function.prototype}\n"
    module = tvm.IRModule(functions)
    built = tvm.compile(module, target=tvm.target.Target(dict(target)))
    built.mod.write_to_file(str(folder / OBJECT))
    (folder / HEADER).write_text(text + TAIL)
    return described


def _kernels(packing: Packing) -> Iterator[tuple[Any, Operands]]:
    """The PrimFuncs of a packing, and their operands."""
    codes, tables = scalar_activation_operands(CHUNK), scalar_activation_operands(TABLES)
    yield quantize_activation(hvx.MACHINE, packing, "int8"), codes
    yield hvx.dot_gemm(packing, "int8"), hvx.operands("dot_gemm", packing, "int8")
    if packing.looked_up:
        yield exact_tables(hvx.MACHINE, "int8"), exact_tables_operands("int8")
        yield table8(hvx.MACHINE, packing), tables
        for mode in ("int8", TABLE8):
            yield hvx.lut_gemm(packing, mode), hvx.operands("lut_gemm", packing, mode)
