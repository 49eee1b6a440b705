"""Rounding: how far the stored weights are from the float ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.ir.dtype import ELEMENTS, DType
from ladder.passes.rounding import METHODS, Rounded, mse, rtn

# Signal to error of normal weights in groups of 128 by (rtn, mse), in dB. Measured on seeds 0 to
# 9, rounded down to half a dB.
MIN_SQNR_DB = {
    "int": {2: (2, 8.5), 3: (11, 14.5), 4: (18, 20), 5: (25, 25.5), 6: (31, 31.5), 8: (43.5, 43.5)},
    "uint": {2: (5.5, 8.5), 3: (13, 14.5), 4: (19.5, 20), 5: (26, 26), 6: (32, 32), 8: (44, 44.5)},
}
SMALLEST_EXACT = -33  # weights of 10**-34 have denormal scales, which lose digits
SLACK = 1.0001  # mse's last step refits the scale in float32
TYPES = [
    f"{element.name}:{group}{'' if element.signed else ':zp'}"
    for element in ELEMENTS.values()
    for group in ("g16", "g50", "row", "tensor")
]


def dequantized(rounded: Rounded, dtype: DType) -> np.ndarray:
    n, k = rounded.codes.shape
    group = np.arange(k) // dtype.group_size(k)
    wide = (n, rounded.scale.shape[1])
    scale = np.broadcast_to(rounded.scale, wide)[:, group].astype(np.float64)
    zero = 0 if rounded.zero is None else np.broadcast_to(rounded.zero, wide)[:, group].astype(int)
    values: np.ndarray = (rounded.codes.astype(int) - zero) * scale
    return values


def squared_error(weight: np.ndarray, rounded: Rounded, dtype: DType) -> float:
    return float(np.square(dequantized(rounded, dtype) - weight).sum())


def weights(seed: int, n: int, k: int, kind: str = "normal") -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = {
        "normal": rng.standard_normal((n, k)),
        "heavy": rng.standard_t(2, (n, k)),
        "shifted": rng.random((n, k)) + 3,
        "sparse": rng.standard_normal((n, k)) * (rng.random((n, k)) < 0.1),
    }
    return made[kind].astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(
    text=st.sampled_from(TYPES),
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 9),
    k=st.integers(1, 130),
    kind=st.sampled_from(["normal", "heavy", "shifted", "sparse"]),
)
def test_mse_is_never_worse_than_rtn(text: str, seed: int, n: int, k: int, kind: str) -> None:
    dtype, weight = DType.parse(text), weights(seed, n, k, kind)
    plain, searched = (squared_error(weight, m(weight, dtype), dtype) for m in (rtn, mse))
    assert searched <= plain * SLACK + 1e-12, f"seed {seed}: {searched} > {plain}"


@settings(max_examples=100, deadline=None)
@given(
    text=st.sampled_from(TYPES),
    method=st.sampled_from(list(METHODS)),
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 9),
    k=st.integers(1, 130),
    exponent=st.integers(-45, 37),
)
def test_codes_are_in_range_and_errors_are_told(
    text: str, method: str, seed: int, n: int, k: int, exponent: int
) -> None:
    """From denormals to the largest floats."""
    dtype = DType.parse(text)
    weight = (weights(seed, n, k).astype(np.float64) * 10.0**exponent).astype(np.float32)
    rounded = METHODS[method](weight, dtype)
    where, element = f"seed {seed}", dtype.element
    assert rounded.codes.shape == (n, k), where
    assert rounded.scale.shape == dtype.scale_shape(n, k), where
    assert np.isfinite(rounded.scale).all(), where
    assert element.low <= rounded.codes.min() and rounded.codes.max() <= element.high, where
    assert (rounded.zero is not None) == dtype.zero_point, where
    wide = weight.astype(np.float64)
    power = np.square(wide).sum()
    told = (squared_error(wide, rounded, dtype) / power) ** 0.5 if power else 0.0
    assert rounded.relative_error <= 1.0001, where
    if exponent >= SMALLEST_EXACT:
        assert rounded.relative_error == pytest.approx(told, rel=1e-3, abs=1e-6), where


@pytest.mark.parametrize("text", ["int4:g16", "uint4:g16:zp", "int2:row", "uint8:tensor:zp"])
@pytest.mark.parametrize("method", METHODS)
def test_zeros_stay_zeros(text: str, method: str) -> None:
    dtype, weight = DType.parse(text), weights(3, 4, 64)
    weight[:, 16:32] = 0
    weight[1] = 0
    values = dequantized(METHODS[method](weight, dtype), dtype)
    assert not values[weight == 0].any()
    nothing = METHODS[method](np.zeros((4, 64), np.float32), dtype)
    assert not dequantized(nothing, dtype).any() and nothing.relative_error == 0


@pytest.mark.parametrize("text", TYPES)
def test_a_grid_is_kept(text: str) -> None:
    """Weights that are codes times a power of two come back as they were."""
    dtype, rng = DType.parse(text), np.random.default_rng(5)
    high = dtype.element.high if dtype.element.signed else dtype.element.high // 2
    codes = rng.integers(-high, high + 1, (6, 100)).astype(np.float32)
    codes[:, ::4] = high
    codes[:, 1::4] = -high - (0 if dtype.element.signed else 1)
    weight = codes / 8
    for method in METHODS.values():
        np.testing.assert_allclose(dequantized(method(weight, dtype), dtype), weight, rtol=1e-6)


def test_the_largest_weight_may_lie_on_either_side() -> None:
    """mse uses the longer negative side of the code range, with a negative scale if need be."""
    dtype = DType.parse("int2:row")
    for sign in (1, -1):
        weight = sign * np.array([[2.0, 1.0, 0.0, -1.0]], np.float32)
        rounded = mse(weight, dtype)
        np.testing.assert_allclose(dequantized(rounded, dtype), weight)
        assert rounded.scale[0, 0] == -sign


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
