"""Kernels of muxed products, and of those with one sum over all of K, have the reference's bits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import tvm
from kernel_cases import HERE, Case, buffer, built, compiled, random_case, seed_of

from ladder.codegen.kernels.quantize import quantize_activation
from ladder.codegen.kernels.signature import table_entries
from ladder.codegen.layout import PART, Packing, total_chunks
from ladder.codegen.mux_layout import AuxLayout
from ladder.hardware.targets import Level
from ladder.ir import numerics
from ladder.ir.activation import BLOCK, QUANTIZED, STATIC, block_of, table_mode
from ladder.ir.dtype import DType
from ladder.ir.mux import Mux, mux_activation, mux_sums

pytestmark = pytest.mark.kernels

# type, mode, mux, M, N, K, outliers. There are few, because each compiles its own kernels.
PRODUCTS = [
    ("int8:row", "int8:tensor", "digits6", 1, 70, 301, 5),
    ("int8:row", "int8:tensor", "digits6", 1, 70, 301, 301),
    ("int8:row", "int8:static", "digits4x2", 7, 97, 555, 40),
    ("int8:row", "int7:token", "", 1, 70, 1003, 0),
    ("uint2:row:zp", "int5", "digits3x2", 3, 70, 555, 33),
    ("uint2:row:zp", "int6:tensor", "muxq2", 1, 64, 17, 2),
    ("uint4:g32:zp", "int8:static", "muxq2", 1, 65, 301, 9),
    ("uint4:g32:zp", "int8", "digits7", 5, 65, 301, 60),
    ("ternary:tensor", "int8:tensor", "digits6", 1, 70, 777, 9),
    ("ternary:tensor", "int4:tensor", "digits3", 5, 70, 777, 100),
]
# All run on the highest level, some on each other one: levels only differ within a run of chunks.
CASES = [
    pytest.param(level, args, id="-".join(map(str, [level.name, *args])))
    for level in HERE
    for args in (PRODUCTS if level is HERE[-1] else PRODUCTS[-3::2] + PRODUCTS[:1])
]


@dataclass(frozen=True)
class Muxed:
    """A product with its outliers, and the results of the reference."""

    case: Case
    mode: str
    mux: Mux | None
    channels: npt.NDArray[np.int64]
    static: np.float32 | None
    block: int

    @staticmethod
    def of(text: str, mode: str, mux: str, m: int, n: int, k: int, count: int) -> Muxed:
        rng = np.random.default_rng(seed_of(text, mode, mux))
        dtype, kind = DType.parse(text), QUANTIZED[mode]
        case, how = random_case(rng, dtype, m, n, k), Mux.parse(mux) if mux else None
        channels = np.sort(rng.choice(k, count, replace=False))
        case.x[:, channels] *= rng.uniform(5, 80, count).astype(np.float32)
        static = None
        if kind.granularity == STATIC:  # some values are clipped
            reach = how.reach if how else 1
            static = np.float32(0.7 * np.abs(case.x).max() / kind.levels / reach)
        return Muxed(case, mode, how, channels, static, block_of(dtype, mode, k))

    @property
    def packing(self) -> Packing:
        dtype = self.case.dtype
        return Packing.of(dtype, self.block != dtype.block, self.mux is not None)

    @property
    def layout(self) -> AuxLayout:
        assert self.mux is not None
        k = self.case.x.shape[1]
        return AuxLayout.of(self.channels, k, self.block, self.mux, self.packing.kind.unit_chunks)

    def reference(self) -> tuple[numerics.F32, numerics.I32, numerics.F32]:
        """Scales, totals and the product."""
        case, kind, step = self.case, QUANTIZED[self.mode], self.packing.step
        how = self.block, kind.bits, kind.granularity, self.static
        blocks = -(-case.x.shape[1] // self.block)
        zeros, scales = case.zeros[:, :blocks], case.scales[:, :blocks]
        sums: numerics.I32 | numerics.F32
        if self.mux is None:
            q, scale, total = numerics.quantize_activation(case.x, *how)
            sums = numerics.dot_sums(q, total, case.codes, zeros, self.block, step)
        else:
            q, aux, scale, total = mux_activation(case.x, self.channels, self.mux, *how)
            read = q, aux, total, self.channels, self.mux
            sums = mux_sums(*read, case.codes, zeros, self.block, step)
        shift = case.shift(total, False)
        return scale, total, numerics.combine(sums, scales, scale, shift)

    def codes(self, level: Level) -> list[tvm.runtime.Tensor]:
        """q, scale and total from the kernel under test."""
        (m, k), kind = self.case.x.shape, QUANTIZED[self.mode]
        whole = self.block >= k and kind.granularity != BLOCK
        func = quantize_activation(self.mode, 0 if whole else self.block, m > 1, mux=self.mux)
        operands: list[npt.NDArray[np.generic]] = [self.case.x]
        operands += [] if self.static is None else [np.array([self.static])]
        chunks, blocks = total_chunks(k, PART if whole else self.block), -(-k // self.block)
        if self.mux is not None:
            operands += [self.layout.small, self.layout.table]
            chunks = self.layout.chunks
        out = [
            buffer(m, chunks, 16, dtype=np.int8),
            buffer(m, blocks, dtype=np.float32),
            buffer(m, blocks, dtype=np.int32),
        ]
        built(func, level.name)(*map(tvm.runtime.tensor, operands), *out)
        return out

    def product(self, level: Level, op: str) -> numerics.F32:
        first, scale, total = self.codes(level)
        mode = table_mode(self.mode)
        if op == "lut_gemm":
            q, form = first, Packing(8, 32, True, 0)
            first = buffer(*q.shape[:2], *table_entries(mode), dtype=np.int8)
            compiled("exact_tables", form, mode, level.name)(q, first)
        weights = self.case.weights()
        if self.mux is not None:
            weights[0] = self.layout.pack(self.case.codes, self.packing)
            weights += [self.layout.starts, self.layout.numbers]
        out = buffer(len(self.case.x), len(self.case.codes), dtype=np.float32)
        func = compiled(op, self.packing, mode if op == "lut_gemm" else "int8", level.name)
        func(first, scale, total, *map(tvm.runtime.tensor, weights), out)
        return np.asarray(out.numpy())


@pytest.mark.parametrize(("level", "args"), CASES)
def test_products(level: Level, args: tuple[str, str, str, int, int, int, int]) -> None:
    muxed = Muxed.of(*args)
    scale, total, wanted = muxed.reference()
    codes = muxed.codes(level)
    np.testing.assert_array_equal(codes[1].numpy(), scale)
    np.testing.assert_array_equal(codes[2].numpy(), total)
    np.testing.assert_array_equal(muxed.product(level, "dot_gemm"), wanted)
    if not muxed.packing.shares_bytes:
        np.testing.assert_array_equal(muxed.product(level, "lut_gemm"), wanted)


def test_outliers_take_whole_chunks_of_their_block() -> None:
    """Blocks of 32: two outliers in the first, none in the second, 17 in the third."""
    channels = np.array([3, 31, *range(70, 87)])
    layout = AuxLayout.of(channels, 90, 32, Mux("digits", 7))
    assert layout.starts.tolist() == [0, 1, 1, 3]
    assert layout.places.tolist() == [0, 1, *range(16, 33)]
    assert layout.chunks == 3 + 6 and layout.numbers.tolist() == [1, 128]
    assert layout.table[1].tolist() == [31, 3 * 16 + 16 + 15, 4, 0]
    small = np.ones((6, 16), np.float32)
    small.reshape(-1)[channels] = 1 / 128
    np.testing.assert_array_equal(layout.small, small)
    assert replace(layout, unit=5).starts.tolist() == [0, 5, 5, 10]
