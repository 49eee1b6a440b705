"""The physical layout: packing loses nothing, for any shape, width and block."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.codegen.layout import (
    TILE,
    Packing,
    blocks_of,
    chunk_starts,
    chunks_of,
    pack_codes,
    pack_planes,
    pack_rows,
    pack_trits,
    total_chunks,
    unpack_planes,
    unpack_trits,
)
from ladder.ir.dtype import DType


@settings(max_examples=60)
@given(
    n=st.integers(1, 150),
    k=st.integers(1, 300),
    bits=st.integers(1, 8),
    block=st.integers(1, 256),
    seed=st.integers(0, 2**32 - 1),
)
def test_planes_round_trip(n: int, k: int, bits: int, block: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (n, k)).astype(np.uint8)
    planes = pack_planes(codes, bits, block)
    assert planes.shape[1:3] == (total_chunks(k, block), bits)
    np.testing.assert_array_equal(unpack_planes(planes, n, k, bits, block), codes)


@settings(max_examples=60)
@given(
    n=st.integers(1, 150),
    k=st.integers(1, 300),
    block=st.integers(1, 256),
    seed=st.integers(0, 2**32 - 1),
)
def test_trits_round_trip(n: int, k: int, block: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 3, (n, k)).astype(np.uint8)
    packing = Packing(2, block, True, 1, storage="trits")
    trits = pack_codes(codes, packing)
    assert trits.shape == packing.plane_shape(n, k)
    np.testing.assert_array_equal(unpack_trits(trits, n, k, block), codes)


def test_all_five_trits_of_a_byte_round_trip() -> None:
    """All 243 bytes: one row, whose quads differ in one weight of four."""
    every = np.array([*itertools.product(range(3), repeat=5)], np.uint8)  # [243, quads of a unit]
    codes = np.zeros((len(every), 2, 4, 4), np.uint8)  # two chunks, [table group, weight]
    codes[:, 0, 0] = every[:, :4]
    codes[:, 1, 0, 0] = every[:, 4]
    flat = codes.reshape(len(every), 32)
    trits = pack_trits(flat, 32)
    first_bytes = trits.view(np.uint8).reshape(-1, 2, 64, 4)[:, 0, :, 0].reshape(-1)
    assert len(set(first_bytes[: len(every)].tolist())) == len(every)
    np.testing.assert_array_equal(unpack_trits(trits, len(every), 32, 32), flat)


def test_ternary_takes_eight_fifths_of_a_bit() -> None:
    packing = Packing.of(DType.parse("ternary:row"))
    assert np.prod(packing.plane_shape(64, 1280)) * 32 == 64 * 1280 * 8 / 5


@given(k=st.integers(1, 2000), block=st.integers(1, 300))
def test_chunks_cover_k(k: int, block: int) -> None:
    starts = [*chunk_starts(k, block), total_chunks(k, block)]
    lengths = [min(block, k - b * block) for b in range(blocks_of(k, block))]
    assert np.diff(starts).tolist() == [chunks_of(length) for length in lengths]


@pytest.mark.parametrize("text", ["int4:g32", "uint4:g512:zp", "int8:row", "int2:tensor"])
def test_row_values_reach_their_block(text: str) -> None:
    dtype, n, k = DType.parse(text), 97, 1200
    shape = dtype.scale_shape(n, k)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    packed = pack_rows(values, dtype, n, k)
    for row in (0, 63, 64, 96):
        for block in range(packed.shape[1]):
            group = block * dtype.block // dtype.group_size(k)
            expected = values[row if shape[0] > 1 else 0, group]
            assert packed[row // TILE, block, row % TILE] == expected


def test_a_packing_holds_only_what_changes_the_code() -> None:
    assert Packing.of(DType.parse("int4:row")) == Packing.of(DType.parse("int4:tensor"))
    assert Packing.of(DType.parse("int4:row")) != Packing.of(DType.parse("int4:g128"))
