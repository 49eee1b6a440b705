"""Activation codes and tables have the bits of ``ladder.ir.numerics``."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from kernel_cases import HERE, SIZES, Case, activation, quantized, random_case

from ladder.codegen.layout import chunks_of, total_chunks
from ladder.hardware.targets import Level
from ladder.ir import numerics
from ladder.ir.activation import INTEGER_MODES, TABLE8
from ladder.ir.dtype import DType
from ladder.ir.numerics import I8

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize("level", HERE, ids=lambda level: level.name)
@pytest.mark.parametrize("magnitude", [0.0, 1e-38, 1e-28, 1.0, 1e30])
def test_activations_have_the_bits_of_the_reference(level: Level, magnitude: float) -> None:
    rng = np.random.default_rng(40)
    for text, k, m in itertools.product(("int4:g20", "int4:g128"), SIZES, (1, 3)):
        dtype = DType.parse(text)
        case = random_case(rng, dtype, m, 1, k)
        case = Case(dtype, case.x * np.float32(magnitude), case.codes, case.scale)
        for mode in INTEGER_MODES:
            where = f"seed 40 {text} {mode} K={k} M={m}"
            table8 = mode == TABLE8
            expected = (
                numerics.precompute_table(case.x, dtype.block) if table8 else quantized(case, mode)
            )
            got = [part.numpy() for part in activation(case, mode, level, tables=False)]
            first = in_chunks(expected[0], k, dtype.block)
            np.testing.assert_array_equal(got[0], first if table8 else by_quad(first), where)
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


def by_quad(codes: I8) -> I8:
    """[M, C, 16] along K -> chunks ordered by quads."""
    return codes.reshape(*codes.shape[:2], 4, 4).swapaxes(2, 3).reshape(codes.shape)
