"""GPTQ: the error of products, on activations whose features are correlated."""

from __future__ import annotations

import numpy as np
import pytest
from dequantized import dequantized, squared_error

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.passes.rounding.descent import descend
from ladder.passes.rounding.gptq import Feedback, gptq
from ladder.passes.rounding.matrix import Rounded, finished, mse, rtn
from ladder.passes.rounding.search import Coder, GroupScales

LOW_BIT = (
    *("int1:g32", "int2:g32", "int3:g32", "int4:g32", "int4:row", "int3:tensor", "int4:g50"),
    *("uint2:g32:zp", "uint3:row:zp", "uint2:g32:zpf", "uint4:g32:fp16:zpf", "uint1:g32:bf16:zpf"),
    *("ternary:g32", "bitnet", "nf4:g32", "nf4:g50:fp16", "fp4_e2m1:row", "mxfp4", "mxfp6"),
    *("nvfp4", "int4:g200:bf16", "int8:g32", "fp8_e4m3:row"),
)
K = 192  # a multiple of neither 50 nor 128


def weight_and_tokens(seed: int = 0, n: int = 24, k: int = K) -> tuple[np.ndarray, np.ndarray]:
    """W [n, k] and activations [tokens, k]: a third as many factors as features, of all sizes."""
    rng = np.random.default_rng(seed)
    causes = rng.standard_normal((4 * k, k // 3)) @ rng.standard_normal((k // 3, k))
    tokens = (causes + rng.standard_normal((4 * k, k))) * np.exp(rng.standard_normal(k) / 2)
    return rng.standard_normal((n, k)).astype(np.float32), tokens


def product_error(weight: np.ndarray, rounded: Rounded, dtype: DType, x: np.ndarray) -> float:
    """|(W - Q) X| over |W X|, Frobenius."""
    miss = x @ (dequantized(rounded, dtype).astype(np.float64) - weight).T
    return float(np.linalg.norm(miss) / np.linalg.norm(x @ weight.T))


def descended(rounded: Rounded, weight: np.ndarray, dtype: DType, hessian: np.ndarray) -> Rounded:
    """A rounded weight after descent."""
    coder = Coder.of(dtype, weight)
    zero = None if rounded.zero is None else rounded.zero.astype(np.float32)
    choice = GroupScales(coder.scales.wide(rounded.scale), zero)
    w = coder.tame(weight)
    codes, found = descend(w, rounded.codes, choice, coder, hessian.astype(np.float32))
    return finished(codes, choice if dtype.group == "tensor" else found, coder, w)


@pytest.mark.parametrize("text", LOW_BIT)
def test_products_are_nearer_than_with_mse(text: str) -> None:
    """On the calibration tokens and on others."""
    dtype = DType.parse(text)
    for seed in range(2):
        weight, tokens = weight_and_tokens(seed)
        seen, unseen = tokens[: 3 * K], tokens[3 * K :]
        rounded = gptq(weight, dtype, seen.T @ seen)
        plain, searched = rtn(weight, dtype), mse(weight, dtype)
        for x, margin in ((seen, 0.9), (unseen, 0.95)):
            got = product_error(weight, rounded, dtype, x)
            best = min(product_error(weight, other, dtype, x) for other in (plain, searched))
            assert got < margin * best, f"seed {seed}: {got:.4f}, mse or rtn {best:.4f}"
        assert rounded.note == ""


@pytest.mark.parametrize("text", LOW_BIT)
def test_what_is_stored(text: str) -> None:
    """The same parts, shapes and types as other methods store, and the error that is reported."""
    dtype = DType.parse(text)
    weight, tokens = weight_and_tokens()
    rounded, other = gptq(weight, dtype, tokens.T @ tokens), mse(weight, dtype)
    for name in ("codes", "scale", "zero", "tensor_scale"):
        mine, usual = getattr(rounded, name), getattr(other, name)
        assert (mine is None) == (usual is None), name
        if mine is not None:
            assert (mine.dtype, mine.shape) == (usual.dtype, usual.shape), name
    error = (squared_error(weight, rounded, dtype) / np.square(weight, dtype=float).sum()) ** 0.5
    assert rounded.relative_error == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("text", LOW_BIT)
def test_without_correlation_it_is_mse(text: str) -> None:
    dtype = DType.parse(text)
    weight, _ = weight_and_tokens()
    for size in (1.0, 1e-6, 1e8):
        rounded = gptq(weight, dtype, size * np.eye(K, dtype=np.float32))
        expected = descended(mse(weight, dtype), weight, dtype, np.eye(K))
        assert rounded.relative_error == pytest.approx(expected.relative_error, rel=1e-3)


@pytest.mark.parametrize("text", ["int3:g32", "int3:row", "nf4:g50", "mxfp4", "bitnet"])
def test_column_batches_change_only_rounding_errors(text: str) -> None:
    """A column batch of one column is the algorithm without lazy batches."""
    dtype = DType.parse(text)
    weight, tokens = weight_and_tokens()
    h = tokens.T @ tokens
    errors = [
        product_error(weight, gptq(weight, dtype, h, block=block), dtype, tokens)
        for block in (1, 32, 128, 1000)
    ]
    np.testing.assert_allclose(errors, errors[0], rtol=0.05)


def test_by_hand() -> None:
    """Two features that are nearly the same: the second compensates for the error of the first.

    H = [[1, 1], [1, 1]] plus damping: 0.6 becomes 1 (error -0.4), so 0.6 becomes 0.2, then 0.
    """
    weight = np.array([[0.6, 0.6, 7]], np.float32)
    h = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], np.float32)
    rounded = gptq(weight, DType.parse("int4:tensor"), h, damping=1e-6)
    assert np.sort(np.abs(rounded.codes[0, :2])).tolist() == [0, 1]
    assert abs(rounded.scale[0, 0]) == pytest.approx(1, rel=0.2)


def test_the_factors() -> None:
    """They equal the paper's form: the upper Cholesky factor of the inverse."""
    _, tokens = weight_and_tokens()
    h = tokens.T @ tokens
    damped = h + 0.01 * np.diag(h).mean() * np.eye(K)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    feedback = Feedback.of(h, 0.01)
    np.testing.assert_allclose(feedback.factors, upper / np.diag(upper)[:, None], atol=1e-5)
    importance = np.diag(upper) ** -2
    np.testing.assert_allclose(feedback.importance, importance / importance.mean(), rtol=1e-4)


@pytest.mark.parametrize("text", ["int4:g32", "int2:row", "nf4:g50", "uint2:g32:zpf", "bitnet"])
def test_dead_features_are_rounded_to_nearest(text: str) -> None:
    """They are zero for all tokens: they affect no other column, and keep their weights."""
    dtype, dead = DType.parse(text), [0, 3, 77, K - 1]
    weight, tokens = weight_and_tokens()
    tokens[:, dead] = 0
    rounded = gptq(weight, dtype, tokens.T @ tokens)
    assert rounded.note == ""
    assert product_error(weight, rounded, dtype, tokens) < product_error(
        weight, mse(weight, dtype), dtype, tokens
    )
    decoded = dequantized(rounded, dtype)
    miss = np.linalg.norm((decoded - weight)[:, dead]) / np.linalg.norm(weight[:, dead])
    assert miss < 2 * mse(weight, dtype).relative_error
    nothing = gptq(weight, dtype, np.zeros((K, K)))
    expected = descended(mse(weight, dtype), weight, dtype, np.eye(K))
    assert nothing.relative_error == pytest.approx(expected.relative_error, rel=1e-3)
    assert nothing.relative_error < mse(weight, dtype).relative_error * (1 + 1e-3)


@pytest.mark.parametrize(
    "text", ["int4:g32", "int2:row", "nf4:g50", "uint3:g32:zpf", "mxfp4", "int3:tensor"]
)
def test_descent_increases_the_loss_of_no_row(text: str) -> None:
    """And it reduces the loss of all rows together."""
    dtype = DType.parse(text)
    weight, tokens = weight_and_tokens()
    hessian = tokens.T @ tokens + np.eye(K)
    before = mse(weight, dtype)
    after = descended(before, weight, dtype, hessian)
    losses = [
        np.einsum("nk,nk->n", miss @ hessian, miss)
        for miss in (dequantized(rounded, dtype) - weight for rounded in (before, after))
    ]
    assert (losses[1] <= losses[0] * 1.0001).all()
    assert losses[1].sum() < 0.9 * losses[0].sum()


def test_fewer_tokens_than_features() -> None:
    """The Hessian has no inverse; damping gives it one, and more damping where that fails."""
    dtype = DType.parse("int3:g32")
    weight, tokens = weight_and_tokens()
    few = tokens[:20]
    rounded = gptq(weight, dtype, few.T @ few)
    assert product_error(weight, rounded, dtype, few) < 0.3 * product_error(
        weight, mse(weight, dtype), dtype, few
    )
    h = (few.T @ few).astype(np.float32)
    h[0, 1] = h[1, 0] = 3 * np.sqrt(h[0, 0] * h[1, 1])  # no longer a sum of x x'
    noted = gptq(weight, dtype, h)
    assert noted.note.startswith("Hessian damped by ")
    assert noted.note.endswith(", not 0.01, to be positive definite")


def test_weights_of_any_size() -> None:
    """A power of two changes no code."""
    dtype = DType.parse("int4:g32")
    weight, tokens = weight_and_tokens()
    h = tokens.T @ tokens
    codes = gptq(weight, dtype, h).codes
    for exponent in (-70, 70):
        moved = gptq(np.ldexp(weight, exponent), dtype, h)
        np.testing.assert_array_equal(moved.codes, codes)


def test_arguments_are_not_changed() -> None:
    weight, tokens = weight_and_tokens()
    weight, h = np.asfortranarray(weight), tokens.T @ tokens
    before = weight.copy(), h.copy()
    gptq(weight, DType.parse("int4:row"), h)
    np.testing.assert_array_equal(weight, before[0])
    np.testing.assert_array_equal(h, before[1])


@pytest.mark.parametrize(
    ("hessian", "message"),
    [
        (np.eye(5), r"^a weight of 24 x 192 needs a Hessian of 192 x 192"),
        (np.full((K, K), np.nan), r"^the Hessian has NaN or infinity; check the calibration data"),
        (-np.eye(K), r"^the Hessian is not positive definite: it must be a sum of x x'"),
        (np.eye(K) - 1000, r"^the Hessian is not positive definite"),
        (np.eye(K)[::-1] * 1000 + np.eye(K), r"^the Hessian is not positive definite"),
    ],
)
def test_refusals(hessian: np.ndarray, message: str) -> None:
    weight, _ = weight_and_tokens()
    with pytest.raises(LadderError, match=message):
        gptq(weight, DType.parse("int4:g32"), hessian)
