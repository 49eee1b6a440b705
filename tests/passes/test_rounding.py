"""Rounding: the error of the stored weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from dequantized import dequantized, per_weight, squared_error
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.ir.dtype import SCALES, DType
from ladder.ir.element import BUILT_IN, ELEMENTS, code_book
from ladder.passes.rounding.matrix import Rounded, mse, rtn
from ladder.passes.rounding.search import Coder, least_squares

METHODS = {"rtn": rtn, "mse": mse}
# Signal to error of normal weights in groups of 128 by (rtn, mse), in dB. Measured on seeds 0 to
# 2, rounded down to half a dB.
MIN_SQNR_DB = {
    "int": {2: (2, 8.5), 3: (11, 14.5), 4: (18, 20), 5: (25, 25.5), 6: (31, 31.5), 8: (43.5, 43.5)},
    "uint": {2: (5.5, 8.5), 3: (13, 14.5), 4: (19.5, 20), 5: (26, 26), 6: (32, 32), 8: (44, 44.5)},
}
BY_THEIR_MEAN = ("int1", "ternary", "ternary2")  # rtn's scale for them
SLACK = 1.0001  # errors are compared in float32
GROUPS = ("g16", "g50", "row", "tensor")
ODD_BOOKS = (
    code_book("test_positive", [0.5, float("nan"), 3.0, 7.0]),  # neither 0 nor negative values
    code_book("test_dense", np.linspace(-1, 1, 255) ** 3 + 4),  # too dense for a table
    code_book("test_lopsided", [-0.5, 0.0, 0.25, 2.0]),
)


@pytest.fixture(autouse=True, scope="module")
def odd_books() -> Iterator[None]:
    """User types that only the tests of this file know."""
    ELEMENTS.update({book.name: book for book in ODD_BOOKS})
    yield
    for book in ODD_BOOKS:
        del ELEMENTS[book.name]


def _types() -> Iterator[str]:
    """Every element with every scale type and kind of zero point that it may have."""
    for number, element in enumerate((*BUILT_IN, *ODD_BOOKS)):
        zeros = [""] if element.signed else [":zp", ":zpf"]
        for scale in SCALES:
            for zero in zeros:
                if zero != ":zpf" or SCALES[scale].itemsize >= 2:
                    group = GROUPS[(number + len(scale)) % len(GROUPS)]
                    yield f"{element.name}:g16:{scale}{zero}"
                    yield f"{element.name}:{group}{zero}"


TYPES = sorted(set(_types()))
KINDS = ("normal", "heavy", "shifted", "sparse")
WEIGHTS = {
    "text": st.sampled_from(TYPES),
    "seed": st.integers(0, 2**32 - 1),
    "n": st.integers(1, 9),
    "k": st.integers(1, 130),
    "kind": st.sampled_from(KINDS),
}


def weights(seed: int, n: int, k: int, kind: str = "normal") -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = {
        "normal": rng.standard_normal((n, k)),
        "heavy": rng.standard_t(2, (n, k)),
        "shifted": rng.random((n, k)) + 3,
        "sparse": rng.standard_normal((n, k)) * (rng.random((n, k)) < 0.1),
    }
    return made[kind].astype(np.float32)


def sizes(weight: np.ndarray, exponent: int) -> np.ndarray:
    """From denormals to nearly the largest floats."""
    return (weight.astype(np.float64) * 10.0**exponent).astype(np.float32)


@settings(max_examples=300, derandomize=True)
@given(**WEIGHTS, method=st.sampled_from(list(METHODS)), exponent=st.integers(-45, 36))
def test_no_other_code_is_nearer(
    text: str, seed: int, n: int, k: int, kind: str, method: str, exponent: int
) -> None:
    """This holds exactly, in float32, for the scale and zero point that are stored."""
    dtype, weight = DType.parse(text), sizes(weights(seed, n, k, kind), exponent)
    rounded = METHODS[method](weight, dtype)
    scale, zero = per_weight(rounded, dtype)
    with np.errstate(over="ignore"):  # a value beyond float32 is infinitely far
        decoded = (dtype.element.values - zero[..., None]) * scale[..., None]
    distance = np.abs(decoded - weight[..., None])
    u = dtype.element.to_unsigned(rounded.codes).astype(np.int64)
    taken = np.take_along_axis(distance, u[..., None], axis=-1)[..., 0]
    np.testing.assert_array_equal(taken, np.nanmin(distance, axis=-1), f"seed {seed}")


@settings(max_examples=300, derandomize=True)
@given(**WEIGHTS, method=st.sampled_from(list(METHODS)), exponent=st.integers(-45, 36))
def test_what_is_stored(
    text: str, seed: int, n: int, k: int, kind: str, method: str, exponent: int
) -> None:
    """Codes are used ones, scales are finite and of their type, and the error is reported."""
    dtype, weight = DType.parse(text), sizes(weights(seed, n, k, kind), exponent)
    rounded = METHODS[method](weight, dtype)
    where, element = f"seed {seed}", dtype.element
    assert rounded.codes.shape == (n, k), where
    assert rounded.codes.dtype == (np.int8 if element.low < 0 else np.uint8), where
    u = element.to_unsigned(rounded.codes)
    assert np.isfinite(element.values[u]).all(), where
    np.testing.assert_array_equal(element.from_unsigned(u), rounded.codes, where)
    scale = rounded.scale.astype(np.float32)
    assert rounded.scale.dtype == SCALES[dtype.scale] and np.isfinite(scale).all(), where
    assert dtype.scale != "e8m0" or ((scale >= 2.0**-126).all() and (scale <= 2.0**127).all()), (
        where
    )
    assert (rounded.tensor_scale is not None) == dtype.tensor_scale, where
    assert (rounded.zero is not None) == dtype.zero_point, where
    if rounded.zero is not None:
        assert rounded.zero.dtype == dtype.zero_kind, where
        whole = rounded.zero.astype(np.float32)
        assert np.isfinite(whole).all(), where
        assert dtype.zero != "zp" or (whole <= element.high).all(), where
    power = np.square(weight, dtype=np.float64).sum()
    error = (squared_error(weight, rounded, dtype) / power) ** 0.5 if power else 0.0
    assert rounded.relative_error == pytest.approx(error, rel=1e-3, abs=1e-6), where


@settings(max_examples=300, derandomize=True)
@given(**WEIGHTS)
def test_mse_is_never_worse_than_rtn(text: str, seed: int, n: int, k: int, kind: str) -> None:
    dtype, weight = DType.parse(text), weights(seed, n, k, kind)
    plain, searched = (squared_error(weight, m(weight, dtype), dtype) for m in (rtn, mse))
    assert searched <= plain * SLACK + 1e-9, f"seed {seed}: {searched} > {plain}"


@pytest.mark.parametrize("text", TYPES)
@pytest.mark.parametrize("method", METHODS)
def test_zeros_stay_zeros(text: str, method: str) -> None:
    dtype, weight = DType.parse(text), weights(3, 4, 64)
    nothing = METHODS[method](np.zeros((4, 64), np.float32), dtype)
    if dtype.scale == "e8m0" and not (dtype.element.values == 0).any():
        assert np.abs(dequantized(nothing, dtype)).max() < 1e-28  # neither has a 0
        return
    assert not dequantized(nothing, dtype).any() and nothing.relative_error == 0
    if dtype.group == 16:
        weight[:, 16:32] = 0
        assert not dequantized(METHODS[method](weight, dtype), dtype)[:, 16:32].any()


def grid(dtype: DType) -> np.ndarray:
    """Weights [6, 100]: values of the element times a power of two, both ends in each group."""
    element, rng = dtype.element, np.random.default_rng(5)
    values = element.values[np.isfinite(element.values)]
    if dtype.zero_point:
        values = values - (element.high + 1) // 2
    elif not element.book and values.max() < -values.min():
        values = values[1:]  # rtn spans with the shorter side
    weight = rng.choice(values, (6, 100))
    weight[:, ::4], weight[:, 1::4] = values.max(), values.min()
    scaled: np.ndarray = weight.astype(np.float32) / 8
    return scaled


@pytest.mark.parametrize("text", [t for t in TYPES if not t.endswith(":e4m3:zp")])
def test_a_grid_is_kept(text: str) -> None:
    """Weights that are values of the element times a power of two do not change."""
    dtype = DType.parse(text)
    weight = grid(dtype)
    for method in (mse,) if dtype.name in BY_THEIR_MEAN else (rtn, mse):
        kept = dequantized(method(weight, dtype), dtype)
        np.testing.assert_allclose(kept, weight, rtol=1e-6, atol=1e-6 * np.abs(weight).max())


@pytest.mark.parametrize("text", [t for t in TYPES if ":fp16" not in t])
@pytest.mark.parametrize("method", METHODS)
def test_weights_of_any_size_get_the_same_codes(text: str, method: str) -> None:
    """A power of two changes no code, even where squares of weights overflow or vanish."""
    dtype, weight = DType.parse(text), weights(1, 3, 40)
    codes = METHODS[method](weight, dtype).codes
    for exponent in (-70, 70):
        moved = METHODS[method](np.ldexp(weight, exponent), dtype)
        np.testing.assert_array_equal(moved.codes, codes)


def test_the_largest_weight_may_be_on_either_side() -> None:
    """mse uses the longer negative side of the code range, with a negative scale if need be."""
    dtype = DType.parse("int2:row")
    for sign in (1, -1):
        weight = sign * np.array([[2.0, 1.0, 0.0, -1.0]], np.float32)
        rounded = mse(weight, dtype)
        np.testing.assert_allclose(dequantized(rounded, dtype), weight)
        assert rounded.scale[0, 0] == -sign


def test_one_bit_has_the_mean_as_its_scale() -> None:
    weight = weights(1, 4, 64)
    for method in METHODS.values():
        rounded = method(weight, DType.parse("int1:row"))
        np.testing.assert_allclose(rounded.scale[:, 0], np.abs(weight).mean(1), rtol=1e-6)
        np.testing.assert_array_equal(rounded.codes, np.sign(weight))


def test_bitnet_by_hand() -> None:
    """mean |w| = 1: 0.5 is a tie and goes to the even 0."""
    weight = np.array([[2.5, -0.6, 0.4, -0.5]], np.float32)
    rounded = rtn(weight, DType.parse("bitnet"))
    assert rounded.codes.tolist() == [[1, -1, 0, 0]] and rounded.scale.tolist() == [[1]]


def test_microscaling_by_hand() -> None:
    """OCP MX: floor(log2 7) - 2 = 0, so 7 is clipped to 6; mse may take 2 instead."""
    weight = np.array([[7, -5, 0.25, 0.75, 1]], np.float32)
    rounded = rtn(weight, DType.parse("mxfp4"))
    assert rounded.scale.astype(float).tolist() == [[1]]
    assert dequantized(rounded, DType.parse("mxfp4")).tolist() == [[6, -6, 0.5, 1, 1]]


def test_nvfp4_by_hand() -> None:
    """The group with the largest weight has the largest e4m3 scale, 448."""
    weight = np.repeat(np.array([[6 * 448, 6 * 7]], np.float32), 16, axis=1)
    rounded = rtn(weight, DType.parse("nvfp4"))
    assert rounded.tensor_scale == 1
    assert rounded.scale.astype(float).tolist() == [[448, 7]]


def test_a_float_zero_point_fits_any_two_levels() -> None:
    weight = np.array([[3.25, 4.5, 4.5, 3.25]], np.float32)
    rounded = rtn(weight, DType.parse("uint1:row:zpf"))
    assert rounded.codes.tolist() == [[0, 1, 1, 0]]
    assert rounded.scale.tolist() == [[1.25]] and rounded.zero is not None
    assert rounded.zero.tolist() == pytest.approx(np.array([[-2.6]]))
    same = rtn(np.full((1, 5), -7, np.float32), DType.parse("uint4:row:zpf:fp16"))
    np.testing.assert_allclose(dequantized(same, DType.parse("uint4:row:zpf:fp16")), -7, rtol=1e-3)


@pytest.mark.parametrize(("scale", "largest"), [("fp16", 65504.0), ("e4m3", 448.0)])
def test_scales_are_clamped(scale: str, largest: float) -> None:
    dtype = DType.parse(f"int4:g4:{scale}")
    weight = np.full((1, 8), 1e30, np.float32)
    weight[0, 4:] = 1e-7
    rounded = rtn(weight, dtype)
    assert float(rounded.scale[0, 0]) == largest and float(rounded.scale[0, 1]) > 0
    assert np.abs(dequantized(rounded, dtype)[0, 4:] - np.float32(1e-7)).max() <= np.float32(1e-7)


def test_the_search_takes_importance_into_account() -> None:
    """The scale fits the important column."""
    coder = Coder.of(DType.parse("int2:row"), np.ones(1))
    w = np.array([[[0.9, 0.5, -0.3, 0.7]]], np.float32)
    for column in range(4):
        importance = np.full(4, 1e-6, np.float32)
        importance[column] = 1
        choice = least_squares(coder, w, importance)
        decoded = coder.decode(coder.encode(w, choice), choice)
        assert abs(decoded[0, 0, column] - w[0, 0, column]) < 1e-4


def sqnr_db(weight: np.ndarray, rounded: Rounded, dtype: DType) -> float:
    error = squared_error(weight, rounded, dtype)
    return float(10 * np.log10(np.square(weight, dtype=np.float64).sum() / error))


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("kind", MIN_SQNR_DB)
def test_error_budget(bits: int, kind: str) -> None:
    dtype = DType.parse(f"{kind}{bits}:g128{'' if kind == 'int' else ':zp'}")
    for seed in range(3):
        weight = weights(seed, 32, 512)
        for method, least in zip((rtn, mse), MIN_SQNR_DB[kind][bits], strict=True):
            got = sqnr_db(weight, method(weight, dtype), dtype)
            assert got >= least, f"seed {seed} {method.__name__}: {got:.2f} dB"
