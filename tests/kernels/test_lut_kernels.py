"""Every low-bit kernel gives the bits of ``ladder.ir.numerics``: seeded samples, by ==."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tvm

from ladder.codegen.kernels import kernel, name_of
from ladder.codegen.kernels.library import kernels_of
from ladder.codegen.layout import (
    Packing,
    blocks_of,
    chunks_of,
    pack_planes,
    pack_rows,
    total_chunks,
)
from ladder.ir import numerics
from ladder.ir.dtype import DType
from ladder.ir.numerics import F32, I8, I32, U8
from ladder.targets import LEVELS, Level, runs_here

pytestmark = pytest.mark.kernels

SIZES = (1, 3, 17, 64, 97, 576, 1536)
LARGEST = 6_000_000  # products of one case: the reference in numpy is slow
GROUPS = ("g32", "g64", "g128", "row", "tensor", "g48", "g20")
TYPES = [
    *(f"int{bits}:{group}" for bits in range(2, 9) for group in GROUPS),
    *(f"uint{bits}:{group}:zp" for bits in range(2, 9) for group in GROUPS),
]
HERE = [level for level in LEVELS.values() if runs_here(level)]
HERE_WITH_DOT = [level for level in HERE if "dot_gemm" in kernels_of(level.kernels)]
MODES = ("int8", "table8")
TYPES_PER_LEVEL = 6  # each with both modes and SHAPES_PER_TYPE shapes
SHAPES_PER_TYPE = 3


@dataclass(frozen=True)
class Case:
    """A product: x [M, K], codes [N, K], row values in the shape of the type."""

    dtype: DType
    x: F32
    codes: U8
    scale: F32
    zero: U8 | None

    @property
    def packing(self) -> Packing:
        return Packing.of(self.dtype)

    def by_block(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Row values -> [N, B]."""
        n, k = self.codes.shape
        group = np.arange(blocks_of(k, self.dtype.block)) * self.dtype.block
        group = group // self.dtype.group_size(k)
        return np.broadcast_to(values, (n, values.shape[1]))[:, group]

    @property
    def zeros(self) -> I32:
        offset = np.full((1, self.scale.shape[1]), self.packing.offset)
        return self.by_block(offset if self.zero is None else self.zero).astype(np.int32)


@functools.cache
def compiled(op: str, packing: Packing, mode: str, level_name: str) -> Any:
    level = LEVELS[level_name]
    func = kernel(op, packing, mode, level.kernels)
    module = tvm.IRModule({name_of(func): func})
    return tvm.compile(module, target=tvm.target.Target({**level.llvm}))[name_of(func)]


def random_case(rng: np.random.Generator, dtype: DType, m: int, n: int, k: int) -> Case:
    shape, levels = dtype.scale_shape(n, k), 1 << dtype.bits
    x = rng.standard_normal((m, k)).astype(np.float32)
    x[:, rng.random(k) < 0.05] = 0
    zero = rng.integers(0, levels, shape).astype(np.uint8) if dtype.zero_point else None
    codes = rng.integers(0, levels, (n, k)).astype(np.uint8)
    return Case(dtype, x, codes, (rng.random(shape) / 64).astype(np.float32), zero)


def reference(case: Case, mode: str) -> F32:
    block, scale = case.dtype.block, case.by_block(case.scale)
    if mode == "int8":
        q, a_scale, total = numerics.quantize_activation(case.x, block)
        sums = numerics.dot_sums(q, total, case.codes, case.zeros, block)
    else:
        table, a_scale, total = numerics.precompute_table(case.x, block)
        indices = numerics.table_indices(case.codes, case.dtype.bits, block)
        sums = numerics.lut_sums(table, total, indices, case.zeros)
    return numerics.combine(sums, scale, a_scale)


def buffer(*shape: int, dtype: type[np.generic]) -> Any:
    return tvm.runtime.tensor(np.full(shape, 77, dtype))


def activation(case: Case, mode: str, level: Level, tables: bool = True) -> list[Any]:
    """What the product reads of the activation, from the kernels under test.

    They depend on the block alone, so types share the compiled ones.
    """
    (m, k), packing = case.x.shape, Packing(8, case.dtype.block, True, False, 128)
    x, chunks = tvm.runtime.tensor(case.x), total_chunks(k, packing.block)
    blocks = blocks_of(k, packing.block)
    scale, total = buffer(m, blocks, dtype=np.float32), buffer(m, blocks, dtype=np.int32)
    width = 16 if mode == "int8" else 64
    first = buffer(m, chunks, width, dtype=np.int8)
    op = "quantize_activation" if mode == "int8" else "table8"
    compiled(op, packing, mode, level.name)(x, first, scale, total)
    if mode == "int8" and tables:
        q, first = first, buffer(m, chunks, 2, 64, dtype=np.int8)
        compiled("int8_tables", packing, mode, level.name)(q, first)
    return [first, scale, total]


def product(case: Case, mode: str, level: Level, op: str = "lut_gemm") -> F32:
    (n, k), packing = case.codes.shape, case.packing
    out = buffer(len(case.x), n, dtype=np.float32)
    rows = [v for v in (case.scale, case.zero) if v is not None]
    weights = [
        pack_planes(case.codes, packing.bits, packing.block),
        *(pack_rows(v, case.dtype, n, k) for v in rows),
    ]
    read = activation(case, mode, level, tables=op == "lut_gemm")
    compiled(op, packing, mode, level.name)(*read, *map(tvm.runtime.tensor, weights), out)
    return np.asarray(out.numpy())


def sampled(seed: int, most_tokens: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    shapes = [s for s in itertools.product(SIZES, repeat=3) if np.prod(s) <= LARGEST]
    shapes = [s for s in shapes if s[0] <= most_tokens]
    for text in rng.choice(TYPES, TYPES_PER_LEVEL, replace=False):
        for m, n, k in rng.choice(shapes, SHAPES_PER_TYPE):
            yield random_case(rng, DType.parse(str(text)), int(m), int(n), int(k))


def unequal(case: Case, got: F32, expected: F32) -> str:
    shape = f"M,K {case.x.shape} N,K {case.codes.shape}"
    return f"{case.dtype} {shape}: {(got != expected).mean():.3%} of the outputs differ"


@pytest.mark.parametrize("level", HERE, ids=lambda level: level.name)
@pytest.mark.parametrize("seed", [20, 21])
def test_lut_gemm_has_the_bits_of_the_reference(level: Level, seed: int) -> None:
    for case in sampled(seed, most_tokens=97):
        for mode in MODES:
            got, expected = product(case, mode, level), reference(case, mode)
            assert (got == expected).all(), f"seed {seed} {mode}: {unequal(case, got, expected)}"


@pytest.mark.parametrize("level", HERE_WITH_DOT, ids=lambda level: level.name)
@pytest.mark.parametrize("seed", [30, 31])
def test_dot_gemm_equals_lut_gemm(level: Level, seed: int) -> None:
    for case in sampled(seed, most_tokens=576):
        got, expected = product(case, "int8", level, op="dot_gemm"), product(case, "int8", level)
        assert (got == expected).all(), f"seed {seed}: {unequal(case, got, expected)}"


@pytest.mark.parametrize("level", HERE, ids=lambda level: level.name)
@pytest.mark.parametrize("text", ["int8:row", "uint8:g256:zp", "uint8:g300:zp"])
@pytest.mark.parametrize("mode", MODES)
def test_extreme_codes_and_activations_do_not_overflow(level: Level, text: str, mode: str) -> None:
    dtype, n, k = DType.parse(text), 65, 700
    shape = dtype.scale_shape(n, k)
    zero = np.full(shape, 255, np.uint8) if dtype.zero_point else None
    for code, sign in itertools.product((0, 255), (1, -1)):
        x, codes = np.full((2, k), sign, np.float32), np.full((n, k), code, np.uint8)
        case = Case(dtype, x, codes, np.ones(shape, np.float32), zero)
        got, expected = product(case, mode, level), reference(case, mode)
        assert (got == expected).all(), unequal(case, got, expected)


@pytest.mark.parametrize("level", HERE, ids=lambda level: level.name)
@pytest.mark.parametrize("magnitude", [0.0, 1e-38, 1e-28, 1.0, 1e30])
def test_activations_have_the_bits_of_the_reference(level: Level, magnitude: float) -> None:
    rng = np.random.default_rng(40)
    for text, k, m in itertools.product(("int4:g20", "int4:g128"), SIZES, (1, 3)):
        case = random_case(rng, DType.parse(text), m, 1, k)
        case = Case(case.dtype, case.x * np.float32(magnitude), case.codes, case.scale, None)
        block, where = case.dtype.block, f"seed 40 {text} K={k} M={m}"
        for mode, expected in (
            ("int8", numerics.quantize_activation(case.x, block)),
            ("table8", numerics.precompute_table(case.x, block)),
        ):
            got = [part.numpy() for part in activation(case, mode, level, tables=False)]
            np.testing.assert_array_equal(got[0], in_chunks(expected[0], k, block), where)
            np.testing.assert_array_equal(got[1], expected[1], where)
            np.testing.assert_array_equal(got[2], expected[2], where)


def in_chunks(codes: I8, k: int, block: int) -> I8:
    """Codes [M, B, block padded to 4] or tables [M, B, groups, 16] -> [M, C, 16 or 64]."""
    m, blocks = codes.shape[:2]
    width = 64 if codes.ndim == 4 else 16
    flat = codes.reshape(m, blocks, -1)
    out = np.zeros((m, blocks, chunks_of(block) * width), np.int8)
    out[..., : flat.shape[2]] = flat
    return out.reshape(m, -1, width)[:, : total_chunks(k, block)]
