"""A small language model as an ONNX file, with states of two kinds: rows, and a running sum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from small_graphs import graph, random

VOCABULARY, WIDTH = 128, 16
TEXT = """hybrid (
    int64[1, tokens] input_ids, int64[1] position,
    float[1, 1, context, 16] "state.0.rows", float[1, 16] "state.0.sum"
) => (
    float[1, tokens, 128] logits,
    float[1, 1, context, 16] "state.0.rows.next", float[1, 16] "state.0.sum.next"
) {
    zero = Constant<value_int = 0>()
    one = Constant<value_int = 1>()
    last = Constant<value_int = -1>()
    first = Constant<value_ints = [1]>()
    x = Gather(embed, input_ids)
    row = Unsqueeze(x, first)
    "state.0.rows.next" = TensorScatter<axis = 2>("state.0.rows", row, position)
    tokens_1 = Shape<start = 1, end = 2>(input_ids)
    tokens_0 = Squeeze(tokens_1)
    context_1 = Shape<start = 2, end = 3>("state.0.rows")
    context_0 = Squeeze(context_1)
    steps = Range(zero, tokens_0, one)
    places = Add(position, steps)
    column = Unsqueeze(places, first)
    all = Range(zero, context_0, one)
    seen = LessOrEqual(all, column)
    heads = Attention<scale = 0.25>(row, "state.0.rows.next", "state.0.rows.next", seen)
    attended = Squeeze(heads, first)
    running = CumSum(x, one)
    before = Unsqueeze("state.0.sum", first)
    sums = Add(running, before)
    "state.0.sum.next" = Gather<axis = 1>(sums, last)
    y = Add(attended, sums)
    logits = MatMul(y, "head.weight")
}"""


def write_hybrid(path: Path) -> Path:
    """Embeddings are multiples of 1/8, so their sums are exact in any order."""
    eighths = np.random.default_rng(0).integers(-8, 9, (VOCABULARY, WIDTH)) / 8
    weights = {"embed": eighths.astype(np.float32), "head.weight": random(WIDTH, VOCABULARY)}
    onnx.save(graph(TEXT, weights, opset=24), path)
    return path
