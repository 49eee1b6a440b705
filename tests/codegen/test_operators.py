"""Operators whose conversion by TVM alone fails, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from compiled import run_compiled
from kernel_cases import HERE
from small_graphs import graph, stock

from ladder.errors import LadderError

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


def test_a_normalization_with_a_scale_for_each_head() -> None:
    text = "g (float[1, 3, 2, 16] x) => (float[1, 3, 2, 16] y) { y = RMSNormalization (x, s) }"
    rng = np.random.default_rng(0)
    x, scale = (rng.standard_normal(n).astype(np.float32) for n in ((1, 3, 2, 16), (1, 1, 2, 16)))
    got, wanted = both(text, {"s": scale}, x=x)
    assert np.abs(got - wanted).max() < 1e-5


@pytest.mark.parametrize("attributes", ["", "<p = 1, axis = 0>"])
def test_lp_normalization(attributes: str) -> None:
    text = f"g (float[4, 9] x) => (float[4, 9] y) {{ y = LpNormalization {attributes} (x) }}"
    x = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    x[1], x[:, 2] = 0, 0
    got, wanted = both(text, {}, x=x)
    assert np.abs(got - wanted).max() < 1e-6


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("a = Det (x) y = Det (x)", "Det"),
        ("a = Det (x) y = LSTM (x)", r"Det \(and LSTM\)"),
        ("y = custom.Relu (x)", "custom.Relu"),
        ("y = com.microsoft.MatMulNBits (x)", "com.microsoft.MatMulNBits"),
        (
            "y = If (c) <then_branch = t () => (float[4, 4] a) { a = custom.Relu (x) },"
            "else_branch = e () => (float[4, 4] b) { b = Relu (x) }>",
            "custom.Relu",
        ),
    ],
)
def test_operators_without_a_kernel_are_refused_by_name(body: str, what: str) -> None:
    """Also those of other domains that have the name of a standard one."""
    made: ir.Model = ir.from_proto(
        graph(f"g (float[4, 4] x, bool c) => (float[4, 4] y) {{ {body} }}", {}, opset=24)
    )
    with pytest.raises(LadderError, match=f"^{what} has no kernel; 'ladder quantize' writes"):
        run_compiled(made, HERE[0], {})


def test_what_tvm_cannot_convert_is_refused_by_name() -> None:
    text = "g (float[4] x, int64[1] n) => (float[K] y) { a = Reshape (x, n)\n y = Reshape (a, n) }"
    made: ir.Model = ir.from_proto(graph(text, {}, opset=24))
    with pytest.raises(LadderError, match=r"Reshape '.*' has no kernel: .*; 'ladder quant"):
        run_compiled(made, HERE[0], {})


def test_a_split_into_parts_of_computed_sizes_is_refused() -> None:
    """As JetMoe groups tokens by expert."""
    text = """g (float[5] x, int64[2] sizes) => (float[N] y) {
        y, rest = Split <axis = 0> (x, sizes)
    }"""
    with pytest.raises(LadderError, match="Split into parts of computed sizes has no kernel"):
        both(text, {}, x=np.arange(5, dtype=np.float32), sizes=np.array([2, 3]))
