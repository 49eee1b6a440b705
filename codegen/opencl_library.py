"""Kernels for a GPU as OpenCL source, and a description of the program that calls them.

A folder holds a source file for each packing of weights (``ladder.codegen.layout``) and
``kernels.json``: for every kernel its arguments in order, their shapes and types, and the global
and local sizes of its launch, as integer expressions of M tokens, N out and K in features.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from ladder.codegen.kernels import opencl
from ladder.codegen.kernels.library import name_of
from ladder.codegen.kernels.scalar_activation import exact_tables, quantize_activation, table8
from ladder.codegen.kernels.signature import (
    TABLES,
    Operands,
    accelerator_operands,
    exact_tables_operands,
    present,
    scalar_activation_operands,
)
from ladder.codegen.layout import CHUNK, TILE, Packing
from ladder.errors import LadderError
from ladder.ir.activation import TABLE8
from ladder.ir.dtype import DType
from ladder.ir.numerics import LUT_GROUP
from ladder.support.fields import field

INDEX = "kernels.json"
BATCHES = (1, opencl.SMALL_BATCH)  # tokens that a work group computes together
BUILD_OPTIONS = "-cl-std=CL1.2"
SIGNATURE = re.compile(r"__kernel void (\w+)_kernel\(([^)]*)\) \{")
SUFFIX = "_ptr"  # of a buffer's name in the source


@dataclass(frozen=True)
class Kernel:
    """A kernel to emit: its operator, and the sizes of its launch."""

    op: str
    mode: str
    func: Any
    operands: Operands
    grid: tuple[str, str]
    tokens: int = 1  # of a work group


def own_files(folder: Path) -> set[str] | None:
    """The names of what such a folder holds; None for other folders."""
    try:
        index = json.loads((folder / INDEX).read_bytes())
        field(index, "build_options", str)
        return {INDEX, *field(index, "files", dict)}
    except (OSError, ValueError, LadderError):
        return None


def build_opencl(target: dict[str, Any], types: Sequence[DType], folder: Path) -> list[str]:
    """Write the kernels of ``types`` for ``target`` into ``folder``; returns their names."""
    files: dict[str, Any] = {}
    for packing in dict.fromkeys(Packing.of(dtype) for dtype in types):
        source, kernels = emit(packing, target)
        (folder / f"{packing}.cl").write_text(source)
        of_packing = [str(dtype) for dtype in types if Packing.of(dtype) == packing]
        files[f"{packing}.cl"] = {
            "types": of_packing,
            "sizes": _sizes(packing),
            "kernels": kernels,
        }
    index = {"build_options": BUILD_OPTIONS, "files": files}
    (folder / INDEX).write_text(json.dumps(index, indent=1))
    return [kernel["kernel"] for file in files.values() for kernel in file["kernels"]]


def emit(packing: Packing, target: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The source of all kernels of a packing, and a description of each."""
    kernels = list(_kernels(packing))
    module = tvm.IRModule({name_of(kernel.func): kernel.func for kernel in kernels})
    device = tvm.target.Target(target, host={"kind": "llvm"})
    source = opencl.PRELUDE + tvm.compile(module, target=device).mod.imports[0].inspect_source()
    orders = {name: text.split(", ") for name, text in SIGNATURE.findall(source)}
    return source, [_described(kernel, orders[name_of(kernel.func)]) for kernel in kernels]


def _kernels(packing: Packing) -> Iterator[Kernel]:
    blocks = (f"(B + {TILE - 1}) / {TILE} * {TILE}", "M")
    quantize = quantize_activation(opencl.MACHINE, packing, "int8")
    codes, tables = scalar_activation_operands(CHUNK), scalar_activation_operands(TABLES)
    yield Kernel("quantize_activation", "int8", quantize, codes, blocks)
    with_tables = packing.looked_up
    products = [("dot_gemm", "int8")]
    products += [("lut_gemm", mode) for mode in ("int8", TABLE8) if with_tables]
    if with_tables:
        entries = (f"{TILE} * C", "M")
        exact = exact_tables(opencl.MACHINE, "int8")
        yield Kernel("exact_tables", "int8", exact, exact_tables_operands("int8"), entries)
        yield Kernel("table8", TABLE8, table8(opencl.MACHINE, packing), tables, blocks)
    for tokens in BATCHES:
        grid = (f"{TILE} * NT", f"(M + {tokens - 1}) / {tokens}" if tokens > 1 else "M")
        for op, mode in products:
            func = opencl.PRODUCTS[op](packing, mode, tokens)
            operands = accelerator_operands(op, packing, mode)
            yield Kernel(op, mode, func, operands, grid, tokens)


def _described(kernel: Kernel, order: Sequence[str]) -> dict[str, Any]:
    """What a host program must know; arguments are in the order of the source."""
    by_name = {operand.name: operand for operand in present(kernel.operands)}
    arguments: list[dict[str, Any]] = []
    for text in order:
        name = text.split()[-1].removesuffix(SUFFIX)
        if name not in by_name:
            arguments.append({"name": name, "type": "int32"})
            continue
        operand = by_name[name]
        use, shape = "out" if operand.written else "in", [str(dim) for dim in operand.shape]
        arguments.append({"name": name, "type": operand.dtype, "shape": shape, "use": use})
    return {
        "kernel": f"{name_of(kernel.func)}_kernel",
        "op": kernel.op,
        "mode": kernel.mode,
        "tokens": kernel.tokens,
        "global": kernel.grid,
        "local": (TILE, 1),
        "arguments": arguments,
    }


def _sizes(packing: Packing) -> dict[str, str]:
    """The sizes in shapes, as C expressions of M, N and K."""
    block, chunks = packing.block, packing.chunks
    c = f"K / {block} * {chunks} + (K % {block} + {CHUNK - 1}) / {CHUNK}"
    quads = packing.kind.quads
    units = f"(({c}) * {LUT_GROUP} + {quads - 1}) / {quads}"
    blocks = f"(K + {block - 1}) / {block}"
    return {
        "NT": f"(N + {TILE - 1}) / {TILE}",
        "B": blocks,
        "C": c,
        "P": units if packing.shares_bytes else c,
        "S": blocks if packing.grouped else "1",
    }
