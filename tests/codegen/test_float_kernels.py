"""Kernels on float activations, which decode weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tvm
from kernel_cases import HERE, Case, buffer, built, random_case, random_type, seed_of

from ladder.codegen.kernels.float_gemm import float_gemm
from ladder.codegen.kernels.gather import gather
from ladder.codegen.packing import book_values
from ladder.ir.element import BUILT_IN, Element
from ladder.ir.numerics import F32

pytestmark = pytest.mark.kernels

PLAINEST, ABLEST = HERE[0].name, HERE[-1].name
ELEMENTS = pytest.mark.parametrize("element", BUILT_IN, ids=lambda element: element.name)


def numbers(case: Case) -> F32:
    """The decoded numbers without their scale, [N, K]."""
    if case.packing.digits:
        return np.asarray(book_values(case.dtype)[case.codes])
    per_weight = np.repeat(case.zeros, case.dtype.block, axis=1)[:, : case.codes.shape[1]]
    steps = (case.codes.astype(np.int32) * case.packing.step).astype(np.float32)
    return np.asarray(steps - per_weight.astype(np.float32))


def dequantized(case: Case) -> F32:
    scales = np.repeat(case.scales, case.dtype.block, axis=1)[:, : case.codes.shape[1]]
    scaled = np.asarray(numbers(case) * scales)
    if case.zero is None or not case.dtype.minimum:
        return scaled
    minimum = case.by_block(case.zero).astype(np.float32)
    return np.asarray(scaled + np.repeat(minimum, case.dtype.block, axis=1)[:, : scales.shape[1]])


def operands(case: Case) -> list[Any]:
    return [tvm.runtime.tensor(w) for w in case.weights(floats=True)]


@ELEMENTS
def test_gather_gives_the_dequantized_rows(element: Element) -> None:
    rng = np.random.default_rng(seed_of("gather", element.name))
    case = random_case(rng, random_type(rng, element), 1, 97, 200)
    ids: npt.NDArray[np.int64] = rng.integers(0, 97, 33)
    out = buffer(33, 200, dtype=np.float32)
    func = built(gather(case.packing, 200), ABLEST)
    func(tvm.runtime.tensor(ids), *operands(case), out)
    np.testing.assert_array_equal(out.numpy(), dequantized(case)[ids], str(case.dtype))


@ELEMENTS
def test_float_gemm_is_close_to_float64(element: Element) -> None:
    rng = np.random.default_rng(seed_of("float", element.name))
    level = PLAINEST if seed_of(element.name) % 2 else ABLEST
    case = random_case(rng, random_type(rng, element), 3, 97, 200)
    out = buffer(3, 97, dtype=np.float32)
    built(float_gemm(case.packing), level)(tvm.runtime.tensor(case.x), *operands(case), out)
    weight = dequantized(case).astype(np.float64)
    expected = case.x.astype(np.float64) @ weight.T
    size = np.abs(case.x.astype(np.float64)) @ np.abs(weight).T
    assert (np.abs(out.numpy() - expected) <= 1e-6 * size + 1e-30).all(), str(case.dtype)


@ELEMENTS
def test_each_row_is_multiplied_by_the_expert_that_it_names(element: Element) -> None:
    """Each of four experts has 128 rows of one weight."""
    rng = np.random.default_rng(seed_of("experts", element.name))
    case = random_case(rng, random_type(rng, element), 3, 4 * 128, 200)
    ids: npt.NDArray[np.int64] = rng.integers(0, 4, 3)
    out = buffer(3, 128, dtype=np.float32)
    func = built(float_gemm(case.packing, experts=True), ABLEST)
    order = np.argsort(ids, kind="stable")
    chosen = tvm.runtime.tensor(ids), tvm.runtime.tensor(order)
    func(*chosen, tvm.runtime.tensor(case.x), *operands(case), out)
    weight = dequantized(case).astype(np.float64).reshape(4, 128, 200)[ids]
    expected = np.einsum("mk,mnk->mn", case.x.astype(np.float64), weight)
    size = np.einsum("mk,mnk->mn", np.abs(case.x).astype(np.float64), np.abs(weight))
    assert (np.abs(out.numpy() - expected) <= 1e-6 * size + 1e-30).all(), str(case.dtype)
