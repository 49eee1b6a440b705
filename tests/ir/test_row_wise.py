"""The end of a graph in which every token is computed alone is found, and never too much of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph

from ladder.ir.row_wise import first_alone

MIXED = "mixed = MatMul (square, x)\n"  # of all tokens
AFTER = "y = MatMul (mixed, w)"


def found(lines: str) -> str | None:
    text = f"""g (float[1, tokens, 8] x, float[1, tokens, tokens] square, float[1, 8] one)
        => (float[1, tokens, 8] y) <float[1, tokens, 8] mixed, float[1, tokens, 8] a,
        float[1, tokens, 8] b, float[1, tokens, 4] p, float[1, tokens, 4] q> {{ {lines} }}"""
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 8), "n": (8,), "by_token": (1, 3, 8), "stack": (1, 8, 8)}
    weights = {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}
    numbers = {"first": [0], "next": [1], "end": [1 << 62], "two": [2], "sizes": [4, 4]}
    weights |= {name: np.array(values) for name, values in numbers.items()}
    made: ir.Model = ir.from_proto(graph(text, weights, opset=24))
    value = first_alone(made, "tokens")
    return value.name if value is not None else None


@pytest.mark.parametrize(
    "lines",
    [
        f"{MIXED} {AFTER}",
        f"{MIXED} a = RMSNormalization (mixed, n)\n y = MatMul (a, w)",
        f"{MIXED} a = Softmax <axis = 2> (mixed)\n y = MatMul (a, w)",
        f"{MIXED} a = MatMul (mixed, w)\n b = Tanh (a)\n c = Mul (b, n)\n y = Add (c, mixed)",
        f"{MIXED} p, q = Split <axis = -1> (mixed, sizes)\n r = Mul (p, q)\n y = Add (r, mixed)",
        f"{MIXED} a = Slice (mixed, first, end, next)\n y = MatMul (a, w)",
        f"{MIXED} a = Slice (mixed, first, next, two)\n y = Add (mixed, a)",
        f"{MIXED} s = Constant <value_float = 2.0> ()\n y = Div (mixed, s)",
    ],
)
def test_a_token_is_alone_after_the_last_mixture(lines: str) -> None:
    assert found(lines) == "mixed"


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ("mixed = MatMul (square, x)\n y = Softmax <axis = 1> (mixed)", None),
        (f"{MIXED} a = Slice (mixed, next, end, next)\n y = Add (a, mixed)", None),
        (f"{MIXED} y = Add (mixed, by_token)", None),
        (f"{MIXED} y = MatMul (mixed, stack)", None),
        (f"{MIXED} y = Add (mixed, one)", None),
        (f"{MIXED} a = CumSum (mixed, next)\n b = Tanh (a)\n y = MatMul (b, w)", "a"),
        (f"{MIXED} a = Tanh (mixed)\n b = Tanh (x)\n y = Add (a, b)", None),
        (f"{MIXED} p = Tanh (mixed)\n a = Add (p, x)\n y = MatMul (a, w)", "a"),
    ],
)
def test_what_mixes_tokens_is_left_before_it(lines: str, value: str | None) -> None:
    assert found(lines) == value
