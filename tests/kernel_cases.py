"""Random low-bit products: results of the reference, and of the compiled kernels."""

from __future__ import annotations

import functools
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm

from ladder.codegen.kernels.library import kernel, name_of
from ladder.codegen.kernels.signature import two_planes
from ladder.codegen.layout import Packing, blocks_of, pack_codes, pack_rows, total_chunks
from ladder.codegen.packing import book_digits, book_values, scale_factor, stored_bits
from ladder.hardware.targets import LEVELS, Level, runs_here
from ladder.ir import numerics
from ladder.ir.activation import QUANTIZED
from ladder.ir.dtype import INTEGER_ZERO, SCALES, ZEROS, DType
from ladder.ir.element import Element
from ladder.ir.numerics import F32, I32, U8

HERE = [level for level in LEVELS.values() if runs_here(level)]
TOKENS = (1, 2, 3, 5, 17, 97)
SIZES = (1, 3, 17, 64, 97, 576, 1536)
LARGEST = 1_000_000  # products of one case: the reference in numpy is slow


GROUPS = ("g32", "g64", "g128", "row", "tensor", "g48", "g20", "g16")


@dataclass(frozen=True)
class Case:
    """A product: x [M, K], unsigned codes [N, K], row values in the shape of the type, stored."""

    dtype: DType
    x: F32
    codes: U8
    scale: npt.NDArray[Any]
    zero: npt.NDArray[Any] | None = None
    tensor_scale: npt.NDArray[Any] | None = None

    @property
    def packing(self) -> Packing:
        return Packing.of(self.dtype)

    @property
    def factor(self) -> npt.NDArray[Any]:
        return scale_factor(self.dtype, self.tensor_scale)

    @property
    def scales(self) -> F32:
        """Scales [N, B] as the products use them."""
        return numerics.stored_scale(self.by_block(self.scale), self.factor[0])

    @property
    def zeros(self) -> I32 | F32:
        """Zero points [N, B], which are subtracted from step * code; 0 where a minimum is added."""
        offset = np.full((1, self.scale.shape[1]), self.packing.offset)
        zeros = self.by_block(offset if self.zero is None or self.dtype.minimum else self.zero)
        floats = self.dtype.float_zero and not self.dtype.minimum
        return zeros.astype(np.float32) if floats else zeros.astype(np.int32)

    def shift(self, total: I32, doubled: bool) -> F32 | None:
        """What a minimum adds to the scaled sums."""
        if self.zero is None or not self.dtype.minimum:
            return None
        minimum = self.by_block(self.zero).astype(np.float32)[:, : total.shape[1]]
        return numerics.shift_of_minimum(minimum, total, doubled)

    def by_block(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Row values -> [N, B]."""
        n, k = self.codes.shape
        group = np.arange(blocks_of(k, self.dtype.block)) * self.dtype.block
        group = group // self.dtype.group_size(k)
        return np.broadcast_to(values, (n, values.shape[1]))[:, group]

    def weights(self, floats: bool = False) -> list[npt.NDArray[Any]]:
        """A kernel's weight operands in order; ``floats``: of the kernels on float activations."""
        (n, k), packing = self.codes.shape, self.packing
        out: list[npt.NDArray[Any]] = [pack_codes(self.codes, packing)]
        if packing.digits:
            out.append(book_values(self.dtype) if floats else book_digits(self.dtype))
        out.append(pack_rows(stored_bits(self.scale, packing.scale), self.dtype, n, k))
        if self.zero is not None:
            kept = self.zero.view(packing.zero_type)
            out.append(pack_rows(kept, self.dtype, n, k))
        return [*out, self.factor] if packing.factor else out

    def __str__(self) -> str:
        return f"{self.dtype} M,K {self.x.shape} N,K {self.codes.shape}"


def random_type(rng: np.random.Generator, element: Element) -> DType:
    """A type with this element, and any group, scale type and zero point that it can have."""
    zero = "" if element.signed else str(rng.choice(ZEROS))
    floats = zero not in ("", INTEGER_ZERO)
    scales = [kind for kind in SCALES if not floats or SCALES[kind].itemsize > 1]
    parts = [element.name, str(rng.choice(GROUPS)), str(rng.choice(scales)), zero]
    return DType.parse(":".join(part for part in parts if part))


def random_case(rng: np.random.Generator, dtype: DType, m: int, n: int, k: int) -> Case:
    shape, largest = dtype.scale_shape(n, k), len(dtype.element.values)
    x = rng.standard_normal((m, k)).astype(np.float32)
    x[:, rng.random(k) < 0.05] = 0
    kind = SCALES[dtype.scale]
    scale = 2.0 ** rng.integers(-9, 3, shape) if dtype.scale == "e8m0" else rng.random(shape) / 64
    zero = rng.integers(0, largest, shape).astype(np.uint8) if dtype.zero_point else None
    if zero is not None and dtype.float_zero:
        unit = -1 / 64 if dtype.minimum else 1
        zero = ((zero + rng.standard_normal(shape)) * unit).astype(kind)
    own = np.array(rng.random() + 0.5, np.float32) if dtype.tensor_scale else None
    codes = rng.integers(0, largest, (n, k)).astype(np.uint8)
    return Case(dtype, x, codes, scale.astype(kind), zero, own)


def shapes(rng: np.random.Generator, count: int) -> Iterator[tuple[int, int, int]]:
    """``count`` random (M, N, K), the first with one token."""
    able = [s for s in itertools.product(TOKENS, SIZES, SIZES) if np.prod(s) <= LARGEST]
    for i in range(count):
        m, n, k = rng.choice(able)
        yield 1 if i == 0 else int(m), int(n), int(k)


def seed_of(*names: str) -> int:
    """A seed that depends only on the names."""
    return zlib.crc32(" ".join(names).encode())


def reference(case: Case, mode: str) -> F32:
    """The result [M, N] of ``ladder.ir.numerics``."""
    dtype, packing = case.dtype, case.packing
    sums: I32 | F32
    if mode == "table8":
        table, a_scale, total = numerics.precompute_table(case.x, dtype.block)
        indices = numerics.table_indices(case.codes, dtype.bits, dtype.block)
        sums = numerics.lut_sums(table, total, indices, case.zeros, packing.step)
    else:
        q, a_scale, total = quantized(case, mode)
        if packing.digits:
            sums = numerics.book_sums(q, total, case.codes, book_digits(dtype), dtype.block)
        else:
            sums = numerics.dot_sums(q, total, case.codes, case.zeros, dtype.block, packing.step)
    return numerics.combine(sums, case.scales, a_scale, case.shift(total, mode == "table8"))


def quantized(case: Case, mode: str) -> tuple[numerics.I8, F32, I32]:
    kind = QUANTIZED[mode]
    return numerics.quantize_activation(case.x, case.dtype.block, kind.bits, kind.granularity)


@functools.cache
def compiled(op: str, packing: Packing, mode: str, level_name: str) -> Any:
    level = LEVELS[level_name]
    return built(kernel(op, packing, mode, level.kernels), level_name)


@functools.cache
def built(func: Any, level_name: str) -> Any:
    module = tvm.IRModule({name_of(func): func})
    return tvm.compile(module, target=tvm.target.Target({**LEVELS[level_name].llvm}))[name_of(func)]


def buffer(*shape: int, dtype: type[np.generic]) -> Any:
    return tvm.runtime.tensor(np.full(shape, 77, dtype))


class Here:
    """Calls kernels of a level in this process."""

    def __init__(self, level: Level) -> None:
        self.level = level

    def tensor(self, array: npt.NDArray[Any]) -> Any:
        return tvm.runtime.tensor(array)

    def buffer(self, *shape: int, dtype: type[np.generic]) -> Any:
        return buffer(*shape, dtype=dtype)

    def call(self, op: str, packing: Packing, mode: str, *operands: Any) -> None:
        compiled(op, packing, mode, self.level.name)(*operands)


def activation(case: Case, mode: str, level: Level, tables: bool = True) -> list[Any]:
    """The product's operands from the activation, computed by the kernels under test."""
    return quantize(Here(level), case, mode, tables)


def quantize(machine: Any, case: Case, mode: str, tables: bool) -> list[Any]:
    """The same on a ``machine`` like ``Here``.

    The kernels of activations depend only on the scale block, so types share the compiled kernels.
    """
    (m, k), packing = case.x.shape, Packing(8, case.dtype.block, True, 0)
    x, chunks = machine.tensor(case.x), total_chunks(k, packing.block)
    blocks = blocks_of(k, packing.block)
    scale = machine.buffer(m, blocks, dtype=np.float32)
    total = machine.buffer(m, blocks, dtype=np.int32)
    first = machine.buffer(m, chunks, 64 if mode == "table8" else 16, dtype=np.int8)
    op = "table8" if mode == "table8" else "quantize_activation"
    machine.call(op, packing, mode, x, first, scale, total)
    if mode != "table8" and tables:
        q, width = first, (2, 64) if two_planes(mode) else (64,)
        first = machine.buffer(m, chunks, *width, dtype=np.int8)
        machine.call("exact_tables", packing, mode, q, first)
    return [first, scale, total]


def product(case: Case, mode: str, level: Level, op: str = "lut_gemm") -> F32:
    """The result [M, N] of the kernels."""
    return np.asarray(multiply(Here(level), case, mode, op).numpy())


def multiply(machine: Any, case: Case, mode: str, op: str) -> Any:
    """The same on a ``machine`` like ``Here``, as its handle of the result."""
    out = machine.buffer(len(case.x), len(case.codes), dtype=np.float32)
    read = quantize(machine, case, mode, tables=op == "lut_gemm")
    weights = [machine.tensor(w) for w in case.weights()]
    # One kernel of codes serves every mode.
    machine.call(op, case.packing, mode if op == "lut_gemm" else "int8", *read, *weights, out)
    return out


def check(case: Case, mode: str, level: Level, op: str) -> None:
    """The kernel's bits are the reference's."""
    got, expected = product(case, mode, level, op), reference(case, mode)
    differ = (got != expected).mean()
    assert differ == 0, f"{op} {mode} {level.name} {case}: {differ:.3%} of the outputs differ"
