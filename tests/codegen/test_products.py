"""Every low-bit product gives the bits of ``ladder.ir.numerics``, on seeded samples."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import (
    HERE,
    Case,
    check,
    product,
    random_case,
    random_type,
    reference,
    seed_of,
    shapes,
)

from ladder.hardware.targets import Level
from ladder.ir.activation import INTEGER_MODES, TABLE8
from ladder.ir.dtype import SCALES, ZEROS, DType
from ladder.ir.element import BUILT_IN, Element, code_book, register

pytestmark = pytest.mark.kernels

CODES = [mode for mode in INTEGER_MODES if mode != TABLE8]  # others: test_muxed_kernels

OWN = register(code_book("kernel_test_book", np.linspace(-1, 2, 100) ** 3))  # 7 bits, three digits
TINY = register(code_book("kernel_test_pair", (-0.3, 1.0)))
ELEMENTS = [*BUILT_IN, OWN, TINY]
WITH_TABLES = [e for e in ELEMENTS if not e.book and not e.storage.per_byte]
SHAPES_PER_TYPE = 2
# The kernels of every level that this machine runs; the AMX level only adds matrix tiles.
WAYS = [
    (level, f"{scheme}_gemm")
    for level in HERE
    for scheme in level.schemes
    if scheme == "tile" or "tile" not in level.schemes
]
INTEGER = [(level, op) for level, op in WAYS if op != "lut_gemm"]
INTEGER_HERE = pytest.mark.parametrize(
    ("level", "op"), INTEGER, ids=lambda x: x if isinstance(x, str) else x.name
)
LUT_LEVELS = [level for level, op in WAYS if op == "lut_gemm"]
LUT_HERE = pytest.mark.parametrize("level", LUT_LEVELS, ids=lambda level: level.name)
LEVELS_HERE = pytest.mark.parametrize("level", HERE, ids=lambda level: level.name)


@INTEGER_HERE
@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: element.name)
def test_integer_products_have_the_bits_of_the_reference(
    level: Level, op: str, element: Element
) -> None:
    rng = np.random.default_rng(seed_of(op.removesuffix("_gemm"), level.name, element.name))
    dtype = random_type(rng, element)
    for shape in shapes(rng, SHAPES_PER_TYPE):
        check(random_case(rng, dtype, *shape), str(rng.choice(CODES)), level, op)


@INTEGER_HERE
@pytest.mark.parametrize("type", ["int4:g80", "uint4:row:zp", "nf4:g300"])
def test_any_number_of_tokens(level: Level, op: str, type: str) -> None:
    """Every remainder of the tokens that are computed together; K ends within a block."""
    rng = np.random.default_rng(seed_of(op, level.name, type))
    case = random_case(rng, DType.parse(type), 145, 66, 333)
    expected = reference(case, "int8")
    for m in (*range(1, 9), 16, 17, 33, 64, 65, 128, 129, 145):
        got = product(replace(case, x=case.x[:m]), "int8", level, op)
        assert np.array_equal(got, expected[:m]), f"{m} tokens"


@LUT_HERE
@pytest.mark.parametrize("element", WITH_TABLES, ids=lambda element: element.name)
def test_lut_gemm_has_the_bits_of_the_reference(level: Level, element: Element) -> None:
    rng = np.random.default_rng(seed_of("lut", level.name, element.name))
    dtype, mode = random_type(rng, element), str(rng.choice(INTEGER_MODES))
    for shape in shapes(rng, SHAPES_PER_TYPE):
        check(random_case(rng, dtype, *shape), mode, level, "lut_gemm")


def test_samples_hold_every_mode_scale_and_zero() -> None:
    """The seeds above cover all of them."""
    types, modes = [], set()
    for level, element in itertools.product(LUT_LEVELS, WITH_TABLES):
        rng = np.random.default_rng(seed_of("lut", level.name, element.name))
        types.append(random_type(rng, element))
        modes.add(str(rng.choice(INTEGER_MODES)))
    assert modes == {*INTEGER_MODES}
    assert {t.scale for t in types} == {*SCALES}
    assert {t.zero for t in types} == {"", *ZEROS}


def modes(op: str) -> list[str]:
    return ["int8", "table8"] if op == "lut_gemm" else ["int8"]


@LEVELS_HERE
@pytest.mark.parametrize("text", ["int8:row", "uint8:g300:zp", "fp8_e5m2:g300"])
def test_extreme_codes_and_activations_do_not_overflow(level: Level, text: str) -> None:
    dtype, n, k = DType.parse(text), 65, 700
    shape = dtype.scale_shape(n, k)
    zero = np.full(shape, 255, np.uint8) if dtype.zero_point else None
    # The largest finite value of fp8_e5m2 is code 123.
    codes_of = (0, 123, 251) if dtype.levels else (0, 255)
    ways = [(op, mode) for where, op in WAYS for mode in modes(op) if where is level]
    if dtype.levels:
        ways = [(op, mode) for op, mode in ways if op != "lut_gemm"]
    for code, sign, (op, mode) in itertools.product(codes_of, (1, -1), ways):
        x, codes = np.full((2, k), sign, np.float32), np.full((n, k), code, np.uint8)
        check(Case(dtype, x, codes, np.ones(shape, np.float32), zero), mode, level, op)


@INTEGER_HERE
@pytest.mark.parametrize("kind", ["fp16", "bf16", "e8m0", "e4m3"])
def test_every_stored_scale_is_read_exactly(level: Level, op: str, kind: str) -> None:
    """All finite bit patterns of a scale type, denormals and negative ones too."""
    size = SCALES[kind].itemsize * 8
    every = np.arange(1 << size, dtype=f"uint{size}").view(SCALES[kind])
    wide = every.astype(np.float32)
    # Products of the largest ones overflow in the reference too; infinities are not scales.
    every = every[np.isfinite(wide) & (np.abs(wide) < 2.0**100)]
    dtype = DType.parse(f"int2:row:{kind}")
    n, own = len(every), np.array(0.37, np.float32) if dtype.tensor_scale else None
    codes = np.full((n, 4), 3, np.uint8)
    x = np.ones((1, 4), np.float32)
    check(Case(dtype, x, codes, every[:, None], None, own), "int8", level, op)
