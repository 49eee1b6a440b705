"""Operators whose conversion by TVM alone fails, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from compiled import run_compiled
from kernel_cases import HERE
from small_graphs import graph, stock

pytestmark = pytest.mark.kernels


def both(
    text: str, weights: dict[str, np.ndarray], **feeds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The compiled output, and ONNX Runtime's."""
    made: ir.Model = ir.from_proto(graph(text, weights, opset=24))
    (wanted,) = stock(made, feeds)
    (got,) = run_compiled(made, HERE[0], feeds).outputs
    assert got.dtype == wanted.dtype
    return got, wanted


def test_equal_of_booleans() -> None:
    text = "g (bool[4, 3] a, bool[3] b) => (bool[4, 3] y) { y = Equal (a, b) }"
    a, b = np.arange(12).reshape(4, 3) % 5 < 2, np.array([True, False, True])
    assert np.array_equal(*both(text, {}, a=a, b=b))


def test_top_k_without_an_order() -> None:
    text = "g (float[4, 9] x) => (float[4, 3] y) { y, places = TopK <sorted = 0> (x, k) }"
    x = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    got, wanted = both(text, {"k": np.array([3])}, x=x)
    assert np.array_equal(np.sort(got), np.sort(wanted))
