"""Every low-bit product gives the bits of ``ladder.ir.numerics``: seeded samples, by ==."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from kernel_cases import HERE, Case, check, random_case, random_type, seed_of, shapes

from ladder.ir.activation import INTEGER_MODES, QUANTIZED
from ladder.ir.dtype import SCALES, DType
from ladder.ir.element import BUILT_IN, Element, code_book, register
from ladder.targets import Level

pytestmark = pytest.mark.kernels

OWN = register(code_book("kernel_test_book", np.linspace(-1, 2, 100) ** 3))  # 7 bits, three digits
TINY = register(code_book("kernel_test_pair", (-0.3, 1.0)))
ELEMENTS = [*BUILT_IN, OWN, TINY]
WITH_TABLES = [e for e in ELEMENTS if not e.book and not e.trits]
SHAPES_PER_TYPE = 2
LEVELS_HERE = pytest.mark.parametrize("level", HERE, ids=lambda level: level.name)


@LEVELS_HERE
@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: element.name)
def test_dot_gemm_has_the_bits_of_the_reference(level: Level, element: Element) -> None:
    rng = np.random.default_rng(seed_of("dot", level.name, element.name))
    dtype = random_type(rng, element)
    for shape in shapes(rng, SHAPES_PER_TYPE):
        check(random_case(rng, dtype, *shape), str(rng.choice([*QUANTIZED])), level, "dot_gemm")


@LEVELS_HERE
@pytest.mark.parametrize("element", WITH_TABLES, ids=lambda element: element.name)
def test_lut_gemm_has_the_bits_of_the_reference(level: Level, element: Element) -> None:
    rng = np.random.default_rng(seed_of("lut", level.name, element.name))
    dtype, mode = random_type(rng, element), str(rng.choice(INTEGER_MODES))
    for shape in shapes(rng, SHAPES_PER_TYPE):
        check(random_case(rng, dtype, *shape), mode, level, "lut_gemm")


def test_samples_hold_every_mode_scale_and_zero() -> None:
    """The seeds above were not unlucky."""
    types, modes = [], set()
    for level, element in itertools.product(HERE, WITH_TABLES):
        rng = np.random.default_rng(seed_of("lut", level.name, element.name))
        types.append(random_type(rng, element))
        modes.add(str(rng.choice(INTEGER_MODES)))
    assert modes == {*INTEGER_MODES}
    assert {t.scale for t in types} == {*SCALES}
    assert {t.zero for t in types} == {"", "zp", "zpf"}


@LEVELS_HERE
@pytest.mark.parametrize("text", ["int8:row", "uint8:g300:zp", "fp8_e5m2:g300"])
def test_extreme_codes_and_activations_do_not_overflow(level: Level, text: str) -> None:
    dtype, n, k = DType.parse(text), 65, 700
    shape = dtype.scale_shape(n, k)
    zero = np.full(shape, 255, np.uint8) if dtype.zero_point else None
    # The largest finite value of fp8_e5m2 is code 123.
    codes_of = (0, 123, 251) if dtype.levels else (0, 255)
    ways = [("dot_gemm", "int8")]
    if not dtype.levels:
        ways += [("lut_gemm", "int8"), ("lut_gemm", "table8")]
    for code, sign, (op, mode) in itertools.product(codes_of, (1, -1), ways):
        x, codes = np.full((2, k), sign, np.float32), np.full((n, k), code, np.uint8)
        check(Case(dtype, x, codes, np.ones(shape, np.float32), zero), mode, level, op)


@LEVELS_HERE
@pytest.mark.parametrize("kind", ["fp16", "bf16", "e8m0", "e4m3"])
def test_every_stored_scale_is_read_exactly(level: Level, kind: str) -> None:
    """All finite bit patterns of a scale type, denormals and negative ones too."""
    size = SCALES[kind].itemsize * 8
    every = np.arange(1 << size, dtype=f"uint{size}").view(SCALES[kind])
    wide = every.astype(np.float32)
    # Products of the largest ones overflow in the reference alike; infinities are no scales.
    every = every[np.isfinite(wide) & (np.abs(wide) < 2.0**100)]
    dtype = DType.parse(f"int2:row:{kind}")
    n, own = len(every), np.array(0.37, np.float32) if dtype.tensor_scale else None
    codes = np.full((n, 4), 3, np.uint8)
    x = np.ones((1, 4), np.float32)
    check(Case(dtype, x, codes, every[:, None], None, own), "int8", level, "dot_gemm")
