"""Every kernel of one instruction level in one shared object, built ahead of time.

Kernels take any shape, so a process that loads the library compiles nothing. Functions have
their kernels' names (``library.name_of``), which contain everything compiled into them.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from ladder.codegen.build import check_room
from ladder.codegen.kernels import activation, quantize
from ladder.codegen.kernels.library import KERNELS, kernel, name_of
from ladder.codegen.layout import Packing
from ladder.codegen.link import linker_of
from ladder.hardware.targets import LEVELS, Level
from ladder.ir.activation import INTEGER_MODES, TABLE8
from ladder.ir.dtype import DType

PROCESSES, PARTS = 2, 9  # enough parts that no process waits long for another
LOOK_UPS = "lut_gemm"
CODES = [mode for mode in INTEGER_MODES if mode != TABLE8]  # other modes compile when needed
TABLE_MODES = ("int8", "int4")  # tables of two planes of bytes, and of one (int2 has one too)


@dataclass(frozen=True)
class Recipe:
    """A kernel that is not generated yet, which takes as long as compiling it."""

    op: str
    mode: str
    packing: Packing | None = None  # of a product
    block: int = 0  # of kernels on activations
    parallel: bool = False
    tables: bool = False

    def make(self, family: str) -> Any:
        """The PrimFunc."""
        if self.packing is not None:
            return kernel(self.op, self.packing, self.mode, family)
        if self.op == "table8":
            return activation.table8(self.block, self.parallel)
        if self.op == "exact_tables":
            return activation.exact_tables(self.mode, self.parallel)
        return quantize.quantize_activation(
            self.mode, self.block, self.parallel, tables=self.tables
        )


def recipes_of(types: Sequence[DType], family: str) -> list[Recipe]:
    """The kernels for all schemes and modes of ``types``, each once."""
    found = [recipe for dtype in types for recipe in _products(Packing.of(dtype), family)]
    for block in sorted({dtype.block for dtype in types}):
        found += _activations(block)
    return list(dict.fromkeys(found))


def _products(packing: Packing, family: str) -> Iterator[Recipe]:
    for op in (op for op in KERNELS[family] if op.endswith("_gemm")):
        if op != LOOK_UPS:  # only the codes of the integer modes differ
            yield Recipe(op, "int8", packing)
        elif packing.looked_up:
            yield from (Recipe(op, mode, packing) for mode in INTEGER_MODES)


def _activations(block: int) -> Iterator[Recipe]:
    """The kernels on activations of one block size, for one thread and for all."""
    for parallel in (False, True):
        yield Recipe("table8", "table8", block=block, parallel=parallel)
        for mode in TABLE_MODES:
            yield Recipe("exact_tables", mode, parallel=parallel)
        for mode in CODES:
            for tables in (False, True):
                yield Recipe(
                    "quantize_activation", mode, block=block, parallel=parallel, tables=tables
                )


def build_kernels(level: Level, types: Sequence[DType], path: Path) -> int:
    """Compile every kernel of ``types`` for ``level`` into ``path``; returns how many."""
    recipes = recipes_of(types, level.kernels)
    with tempfile.TemporaryDirectory(prefix="ladder-") as folder:
        check_room(Path(folder))
        jobs = [(recipes[i::PARTS], level.name, f"{folder}/{i}.o") for i in range(PARTS)]
        with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
            names = [name for found in pool.map(_compile, jobs) for name in found]
        linked = Path(folder) / path.name
        linker_of(level)(str(linked), [path for _, _, path in jobs], strip=True)
        shutil.copy(linked, path)
    return len(names)


def _compile(job: tuple[list[Recipe], str, str]) -> list[str]:
    """Compile one part to an object file; returns the kernels' names."""
    recipes, name, path = job
    level = LEVELS[name]
    functions = {name_of(func): func for func in (r.make(level.kernels) for r in recipes)}
    target = tvm.target.Target(dict(level.llvm))
    tvm.compile(tvm.IRModule(functions), target=target).mod.write_to_file(path)
    return list(functions)
