"""Every unit, in Amaranth's simulator, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from ladder.codegen.hardware.reference import half_tables, looked_up
from ladder.codegen.hardware.simulate import simulate
from ladder.codegen.hardware.stepping import accumulated
from ladder.codegen.hardware.streams import Array, operands, stream_of, sums_of, weight_words
from ladder.hardware.tensor_cores import PRESETS, TensorCore, tensor_core

pytestmark = pytest.mark.hardware
M, N = 2, 16
ROUNDED = [name for name in PRESETS if tensor_core(name)[0].table_bits == 8]
FLOATS = [name for name in PRESETS if tensor_core(name)[0].adds_floats]
EXACT = [name for name in PRESETS if name not in ROUNDED and name not in FLOATS]
CASES = [(name, bits) for name in PRESETS for bits in (1, 2, 4)]


def small(name: str, m: int = M, n: int = N) -> TensorCore:
    return tensor_core(name)[0].scaled(m, n)


def random_data(core: TensorCore, depth: int, bits: int, seed: int = 0) -> tuple[Array, Array]:
    """Activations [M, depth] and codes [N, depth]."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 1 << bits, (core.n, depth)).astype(np.uint8)
    if core.activation.is_float:
        return random.normal(size=(core.m, depth)) * 10.0 ** random.integers(-2, 3), codes
    return random.integers(-127, 128, (core.m, depth)), codes


def as_numbers(core: TensorCore, sums: Array) -> Array:
    """float32 bits as floats; integers stay."""
    return sums.astype(np.uint32).view(np.float32).astype(np.float64) if core.adds_floats else sums


@pytest.mark.parametrize(("name", "bits"), CASES)
def test_rtl_equals_the_reference(name: str, bits: int) -> None:
    """24 cases of 7 steps or more for 32 sums: more than 10 000 dot products of K numbers."""
    core = small(name)
    stream = stream_of(core, *random_data(core, 7 * core.k, bits), bits)
    assert np.array_equal(simulate(core, stream), accumulated(core, stream))


@pytest.mark.parametrize(("name", "bits"), [c for c in CASES if c[0] not in ROUNDED])
def test_reference_multiplies(name: str, bits: int) -> None:
    """Exact for integers; for floats up to what is cut off of float16 entries and of sums."""
    core = small(name)
    x, codes = random_data(core, 256, bits)
    found = as_numbers(core, accumulated(core, stream_of(core, x, codes, bits)))
    wanted = sums_of(core, x, codes, bits)
    if core.adds_floats:
        most = np.full_like(codes, (1 << bits) - 1)
        assert np.abs(found - wanted).max() < 2**-10 * sums_of(core, np.abs(x), most, bits).max()
    else:
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_tables_have_one_scale(name: str) -> None:
    """The sums are those of the rounded entries, which are near the exact ones."""
    core = small(name)
    x, codes = random_data(core, 64, 2)
    found = accumulated(core, stream_of(core, x, codes, 2))
    tables = operands(core, x)
    assert np.array_equal(found, looked_up(core, tables, weight_words(core, codes, 2)).T)
    exact = half_tables(x, core.k)
    scale = np.abs(exact).max((1, 2), keepdims=True) / 127
    assert np.abs(tables * scale - exact).max() <= 0.51 * scale.max()


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("sign", [1, -1])
def test_longest_sum_of_extremes_fits(name: str, sign: int) -> None:
    """All activations and weights at their ends, for the longest sum that may not overflow."""
    core = small(name, 1, 2)
    bits = 4 if core.serial else 8
    x = np.full((1, core.depth), 127 * sign)
    codes = np.stack([np.full(core.depth, c, np.uint8) for c in (0, (1 << bits) - 1)])
    found = simulate(core, stream_of(core, x, codes, bits))
    assert np.array_equal(found, sums_of(core, x, codes, bits))


@pytest.mark.parametrize("name", EXACT)
def test_signs_that_flip_each_step(name: str) -> None:
    core = small(name, 2, 2)
    bits = 1 if core.serial else 8
    flips = np.where(np.arange(32) // core.k % 2, -127, 127)
    x = np.stack([flips, -flips])
    ends = np.where(flips > 0, (1 << bits) - 1, 0).astype(np.uint8)
    codes = np.stack([ends, (1 << bits) - 1 - ends])
    found = simulate(core, stream_of(core, x, codes, bits))
    assert np.array_equal(found, sums_of(core, x, codes, bits))


@pytest.mark.parametrize("name", FLOATS)
def test_largest_smallest_and_cancelling_floats(name: str) -> None:
    core = small(name, 2, 2)
    x = np.array([[16000.0, -16000, 2**-13, -(2**-13)] * 4, [0.0, 6e-8, 16000, 2**-14] * 4])
    codes = np.stack([np.tile(np.array([1, 1, 1, 0], np.uint8), 4), np.zeros(16, np.uint8)])
    stream = stream_of(core, x, codes, 1)
    assert np.array_equal(simulate(core, stream), accumulated(core, stream))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("kind", ["ltc-m2n2k{}-int8", "adder-m2n2k{}", "bit-serial-m2n2k{}"])
def test_other_depths_of_tables(kind: str, k: int) -> None:
    core, _ = tensor_core(kind.format(k))
    x, codes = random_data(core, 4 * k, 2)
    found = simulate(core, stream_of(core, x, codes, 2))
    assert np.array_equal(found, sums_of(core, x, codes, 2))
