"""The reference by hand: these numbers were calculated on paper, not by the code."""

from __future__ import annotations

import numpy as np
import pytest

from ladder.ir import numerics


def f32(*values: float) -> numerics.F32:
    return np.array(values, np.float32)


def test_quantize_activation() -> None:
    """One block of four and a tail of one, which is padded to a whole block."""
    x = f32(127, -1, 0.5, 63.4, -254)[None]
    q, scale, total = numerics.quantize_activation(x, 4)
    assert q.tolist() == [[[127, -1, 0, 63], [-127, 0, 0, 0]]]  # 0.5 rounds to even
    assert scale.tolist() == [[1, 2]] and total.tolist() == [[189, -127]]


def test_precompute_table() -> None:
    """Sums of (a, b, c, d) = (64, 32, 16, 15) with all signs: the largest is 127."""
    table, scale, total = numerics.precompute_table(f32(64, 32, 16, 15)[None], 4)
    assert table.shape == (1, 1, 1, 16)
    entries = table[0, 0, 0].tolist()
    assert entries[15] == 127 and entries[0] == -127
    assert entries[1] == 64 - 32 - 16 - 15  # bit 0 is the first activation
    assert entries[8] == -64 - 32 - 16 + 15
    assert scale.tolist() == [[0.5]] and total.tolist() == [[127]]


def test_table_indices() -> None:
    """Codes 1, 2, 3, 0: plane 0 has bits 1 0 1 0, plane 1 has 0 1 1 0; a tail of one code."""
    codes = np.array([[1, 2, 3, 0, 3]], np.uint8)
    indices = numerics.table_indices(codes, 2, 4)
    assert indices.tolist() == [[[[0b0101], [0b0001]]], [[[0b0110], [0b0001]]]]


def test_dot_sums() -> None:
    """q = (3, -2), codes (1, 3), zero 2: 3 * (1 - 2) - 2 * (3 - 2) = -5."""
    q = np.array([[[3, -2, 0, 0]]], np.int8)
    codes, zero = np.array([[1, 3]], np.uint8), np.array([[2]], np.int32)
    assert numerics.dot_sums(q, np.array([[1]], np.int32), codes, zero, 2).tolist() == [[[-5]]]


def test_lut_sums_are_twice_the_product() -> None:
    """Tables that lose nothing give exactly twice the product in units of the scale."""
    x = f32(64, 32, 16, 15)[None]
    codes, zero = np.array([[0, 1, 2, 3]], np.uint8), np.array([[2]], np.int32)
    table, scale, total = numerics.precompute_table(x, 4)
    sums = numerics.lut_sums(table, total, numerics.table_indices(codes, 2, 4), zero)
    product = 64 * -2 + 32 * -1 + 16 * 0 + 15 * 1
    assert sums.tolist() == [[[2 * product]]]
    assert numerics.combine(sums, f32(1)[None], scale).tolist() == [[product]]


def test_combine_adds_blocks_in_order() -> None:
    """2**24 + 1 - 2**24 is 0 in float32 from the left, 1 in any other order."""
    sums = np.array([[[1 << 24, 1, -(1 << 24)]]], np.int32)
    ones = np.ones((1, 3), np.float32)
    assert numerics.combine(sums, ones, ones).tolist() == [[0]]
    assert numerics.combine(sums, f32(2)[None], ones).tolist() == [[0]]  # one scale for all


def test_blocks_of_zeros() -> None:
    for x in (f32(0, 0, 0, 0)[None], f32(1e-38, 0, -1e-38, 0)[None]):
        q, scale, total = numerics.quantize_activation(x, 4)
        assert not q.any() and not scale.any() and not total.any()
        table, half, plus = numerics.precompute_table(x, 4)
        assert not table.any() and not half.any() and not plus.any()


@pytest.mark.parametrize(("k", "block"), [(1, 4), (5, 4), (7, 6), (64, 32), (65, 32)])
def test_tails_change_nothing(k: int, block: int) -> None:
    """A short row equals the same row padded with zeros."""
    x = np.random.default_rng(7).standard_normal((2, k)).astype(np.float32)
    padded = np.zeros((2, -(-k // block) * block), np.float32)
    padded[:, :k] = x
    for work in (numerics.quantize_activation, numerics.precompute_table):
        for a, b in zip(work(x, block), work(padded, block), strict=True):
            np.testing.assert_array_equal(a, b)
