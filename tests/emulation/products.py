"""The products that every processor must compute to the same bytes, and their runners."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from kernel_cases import Case, multiply, random_case, random_type, reference, seed_of

from emulation import arm64, calls
from ladder.codegen.kernels.library import KERNELS, kernel, name_of
from ladder.codegen.layout import Packing
from ladder.codegen.link import linker_of
from ladder.hardware.targets import LEVELS, Level, runs_here
from ladder.ir.element import BUILT_IN, ELEMENTS
from ladder.ir.numerics import F32

MODES, TOKENS = ("int8", "table8"), (1, 5, 32)
SIZES = ((70, 83), (33, 209), (129, 45))  # N, K: none is a multiple of tiles, blocks or chunks
Outputs = list[dict[str, F32]]  # for each product: the kernel's operator -> [M, N]


@dataclass(frozen=True)
class Product:
    """A case, and how its activations are rounded."""

    case: Case
    mode: str

    @property
    def ops(self) -> tuple[str, ...]:
        """The operators that can compute it."""
        if self.mode == "table8":
            return ("lut_gemm",)
        alone = self.case.packing.shares_bytes or self.case.packing.digits
        return ("dot_gemm", "tile_gemm") if alone else ("lut_gemm", "dot_gemm", "tile_gemm")


Runner = Callable[[Sequence[Product]], Outputs]


@cache
def all_products() -> tuple[Product, ...]:
    """Every integer type in both modes, with few and many tokens and odd shapes."""
    found = []
    for element in (e for e in BUILT_IN if not e.book):
        rng = np.random.default_rng(seed_of("same bits", element.name))
        dtype = random_type(rng, element)
        for mode in MODES[:1] if element.storage.per_byte else MODES:
            for m, (n, k) in zip(TOKENS, SIZES, strict=True):
                found.append(Product(random_case(rng, dtype, m, n, k), mode))
    return tuple(found)


@cache
def book_products() -> tuple[Product, ...]:
    """Code books: with one digit in a register's table, in larger tables, with two and three."""
    found = []
    for name in ("fp4_e2m1", "nf4", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3"):
        rng = np.random.default_rng(seed_of("same bits", name))
        dtype = random_type(rng, ELEMENTS[name])
        for m, (n, k) in zip(TOKENS, SIZES, strict=True):
            found.append(Product(random_case(rng, dtype, m, n, k), MODES[0]))
    return tuple(found)


def expected(products: Sequence[Product]) -> tuple[F32, ...]:
    """The results of ``ladder.ir.numerics``."""
    return tuple(reference(product.case, product.mode) for product in products)


def hash_of(outputs: Sequence[F32]) -> str:
    """One hash of all bytes, in order."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(y).tobytes() for y in outputs)).hexdigest()


@dataclass
class Recorder:
    """A machine like ``kernel_cases.Here`` that records calls."""

    family: str
    kernels: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Any] = field(default_factory=dict)
    buffers: dict[str, Any] = field(default_factory=dict)
    calls: list[Any] = field(default_factory=list)

    def tensor(self, array: Any) -> str:
        name = f"a{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def buffer(self, *shape: int, dtype: type[np.generic]) -> str:
        name = f"b{len(self.buffers)}"
        self.buffers[name] = (shape, np.dtype(dtype).name)
        return name

    def call(self, op: str, packing: Packing, mode: str, *operands: str) -> None:
        func = kernel(op, packing, mode, self.family)
        self.kernels[name_of(func)] = func
        self.calls.append((name_of(func), operands))

    def save(self, folder: Path, results: Sequence[str]) -> None:
        np.savez(folder / "arrays.npz", **self.arrays)
        todo = {"buffers": self.buffers, "calls": self.calls, "results": results}
        (folder / "calls.json").write_text(json.dumps(todo))


def by_library(level: Level, run: Callable[[list[str]], object]) -> Runner:
    """Kernels of ``level`` in one library, called in the Python that ``run`` starts."""

    def runner(products: Sequence[Product]) -> Outputs:
        recorder = Recorder(level.kernels)
        able = [[op for op in p.ops if op in KERNELS[level.kernels]] for p in products]
        names = [
            {op: multiply(recorder, product.case, product.mode, op) for op in ops}
            for product, ops in zip(products, able, strict=True)
        ]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            recorder.save(folder, [name for row in names for name in row.values()])
            library = build(recorder.kernels, level, folder)
            run([calls.__file__, str(library), str(folder), str(folder / "out.npz")])
            out = np.load(folder / "out.npz")
            return [{op: out[name] for op, name in row.items()} for row in names]

    return runner


def build(kernels: dict[str, Any], level: Level, folder: Path) -> Path:
    """The kernels as a shared library."""
    target = tvm.target.Target(dict(level.llvm))
    tvm.compile(tvm.IRModule(kernels), target=target).mod.write_to_file(str(folder / "k.o"))
    linker_of(level)(str(folder / "k.so"), [str(folder / "k.o")])
    return folder / "k.so"


def _run_here(words: list[str]) -> None:
    env = {**os.environ, "TVM_USE_RUNTIME_LIB": "1"}
    subprocess.run([sys.executable, *words], check=True, env=env)


def _emulated(cpu: str) -> Callable[[list[str]], object]:
    return lambda words: arm64.run_python(cpu, words)


# The CPU runs the levels of its architecture; those of others are emulated.
RUNNERS: dict[str, Runner] = {
    name: by_library(LEVELS[name], _run_here)
    for name in ("x86-64", "x86-64-v3", "x86-64-vnni")
    if runs_here(LEVELS[name])
}
RUNNERS |= {
    name: by_library(LEVELS[name], _emulated(cpu))
    for name, cpu in (
        ("armv8.0-neon", "armv8.0"),
        ("armv8.2-dotprod", "armv8.2"),
        ("armv8.6-i8mm", "armv8.6"),
    )
}
