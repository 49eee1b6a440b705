"""Recurrent operators of ONNX 27 in a file: converted, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from small_graphs import graph, random

from ladder.errors import LadderError
from ladder.frontend.load import load
from ladder.ir.recurrence import causal_conv, linear_attention, silu
from ladder.reference import Reference

S, C, TAPS = 5, 6, 3
WEIGHTS = {"w": random(C, 1, TAPS), "b": random(C)}
SIZES = {"q": 8, "k": 4, "v": 6, "decay": 2, "beta": 2}  # 4 query heads of 2, 2 heads of 2 and 3


def convolution(rest: str = "w, b", attributes: str = 'activation = "swish"') -> str:
    kind = f"float[1, {C}, {S}]"
    return f"""g ({kind} x) => ({kind} y, float[1, {C}, {TAPS - 1}] after) {{
        y, after = CausalConvWithState <{attributes}> (x, {rest})
    }}"""


def attention(rest: str = "decay, beta", attributes: str = "", batch: int = 1) -> str:
    inputs = ", ".join(f"float[{batch}, {S}, {size}] {name}" for name, size in SIZES.items())
    return f"""g ({inputs}) => (float[{batch}, {S}, 12] y) {{
        y, after = LinearAttention <q_num_heads = 4, kv_num_heads = 2{attributes}>
            (q, k, v, , {rest})
    }}"""


def written(text: str, folder: Path) -> Path:
    used = {name: array for name, array in WEIGHTS.items() if "(x, w" in text}
    onnx.save(graph(text, used, opset=27), folder / "m.onnx")
    return folder / "m.onnx"


def test_a_convolution_without_a_past(tmp_path: Path) -> None:
    x = random(1, C, S)
    found = Reference(load(written(convolution(), tmp_path)).model).run({"x": x})
    past = np.zeros((1, C, TAPS - 1), np.float32)
    y, after = causal_conv(x, WEIGHTS["w"], WEIGHTS["b"], past)
    assert np.abs(found["y"] - silu(y)).max() < 1e-5
    assert np.array_equal(found["after"], after)


@pytest.mark.parametrize(("attributes", "scale"), [("", 2**-0.5), (", scale = 0.25", 0.25)])
def test_attention_without_a_past(attributes: str, scale: float, tmp_path: Path) -> None:
    feeds = {name: random(1, S, size) for name, size in SIZES.items()}
    found = Reference(load(written(attention(attributes=attributes), tmp_path)).model).run(feeds)
    state = np.zeros((1, 2, 2, 3), np.float32)
    query, key, value, decay, beta = feeds.values()
    wanted, _ = linear_attention(query, key, value, state, decay, beta, scale)
    assert np.abs(found["y"] - wanted).max() < 1e-5


CONV, ATTENTION = "CausalConvWithState ''", "LinearAttention ''"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (convolution(attributes='activation = "gelu"'), f"{CONV} with activation='gelu' is not"),
        (attention("decay"), f"{ATTENTION} with update_rule='gated_delta' and no beta is not"),
        (attention(attributes=', update_rule = "x"'), f"{ATTENTION} with update_rule='x' is not"),
        (attention(batch=2), f"{ATTENTION} of 2 sequences at once is not supported: export it"),
    ],
)
def test_what_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(LadderError, match=reason):
        load(written(text, tmp_path))
