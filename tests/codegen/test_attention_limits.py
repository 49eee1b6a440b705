"""Attention that has no kernel is refused by name, before TVM sees it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from compiled import run_compiled
from kernel_cases import HERE
from small_graphs import Arrays, assert_same, graph, stock

from ladder.errors import LadderError

pytestmark = pytest.mark.kernels
KEYS = "float[1, 2, 6, 16] k, float[1, 2, 6, 16] v"
PLAIN = f"float[1, 4, 6, 16] q, {KEYS}"
SHAPE = "float[1, 4, 6, 16] y"


def attention(
    inputs: str, attributes: str = "", output: str = SHAPE, names: str = "q, k, v"
) -> str:
    return f"g ({inputs}) => ({output}) {{ y = Attention {attributes} ({names}) }}"


def model(text: str) -> ir.Model:
    made: ir.Model = ir.from_proto(graph(text, {}, opset=24))
    return made


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (attention(PLAIN, "<softcap = 2.0>"), "with a softcap"),
        (attention(f"{PLAIN}, float[6, 6] m", names="q, k, v, m"), "with a mask of float32"),
        (
            attention(f"{PLAIN}, bool[1, 4, 6, 6] m", names="q, k, v, m"),
            "with a mask for each head",
        ),
        (
            attention(f"{PLAIN}, bool[1, 6] m", names="q, k, v, m"),
            "with a mask to be broadcast",
        ),
        (
            attention(f"{PLAIN}, bool[6, 6] m", "<is_causal = 1>", names="q, k, v, m"),
            "with a mask and is_causal",
        ),
        (
            attention(
                f"{PLAIN}, float[1, 2, 3, 16] pk, float[1, 2, 3, 16] pv", names="q, k, v, , pk, pv"
            ),
            "with past keys or their lengths",
        ),
        (
            attention(
                "float[1, 6, 64] q, float[1, 6, 32] k, float[1, 6, 32] v",
                "<q_num_heads = 4, kv_num_heads = 2>",
                "float[1, 6, 64] y",
            ),
            "of inputs with 3 dimensions",
        ),
        (
            attention(
                "float[2, 4, 6, 16] q, float[2, 2, 6, 16] k, float[2, 2, 6, 16] v",
                output="float[2, 4, 6, 16] y",
            ),
            "of 2 sequences at once",
        ),
        (
            attention(
                "float[1, 4, 6, 24] q, float[1, 2, 6, 24] k, float[1, 2, 6, 24] v",
                output="float[1, 4, 6, 24] y",
            ),
            "with heads of 24, no multiple of 16,",
        ),
        (
            attention(
                "float[1, 4, 6, 16] q, float[1, 2, 6, 16] k, float[1, 2, 6, 32] v",
                output="float[1, 4, 6, 32] y",
            ),
            "with values of 32 and keys of 16",
        ),
    ],
)
def test_what_the_kernel_cannot_do(text: str, reason: str) -> None:
    with pytest.raises(LadderError, match=f"Attention {reason} has no kernel"):
        run_compiled(model(text), HERE[0], {})


def test_more_outputs_than_one() -> None:
    text = f"""g ({PLAIN}) => ({SHAPE}, float[1, 2, 6, 16] nk, float[1, 2, 6, 16] nv) {{
        y, nk, nv = Attention(q, k, v)
    }}"""
    with pytest.raises(LadderError, match="Attention has no kernel that returns keys, values"):
        run_compiled(model(text), HERE[0], {})


@pytest.mark.parametrize("attributes", ["", "<is_causal = 1>", "<scale = 0.5>"])
def test_what_it_can(attributes: str) -> None:
    rng = np.random.default_rng(0)
    shapes = {"q": (1, 4, 6, 16), "k": (1, 2, 6, 16), "v": (1, 2, 6, 16)}
    feeds: Arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    made = model(attention(PLAIN, attributes))
    assert_same(run_compiled(made.clone(), HERE[0], feeds).outputs, stock(made, feeds))
