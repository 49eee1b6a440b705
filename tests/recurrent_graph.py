"""A small language model as an ONNX file that has every recurrent operator, one after the other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from ladder.ir import dialect
from ladder.ir.recurrence import WKV_RESET
from ladder.ir.states import RESET_KEY

VOCABULARY, WIDTH, STATES = 64, 32, 16
TEXT = """<ir_version: 12, opset_import: ["": 24, "ladder": 1]>
recurrent (
    int64[1, tokens] input_ids, int64[1] position,
    float[1, 32, 3] "state.0.conv", float[1, 32, 16] "state.0.scan",
    float[1, 4, 8, 8] "state.1.memory", float[1, 32] "state.2.held", float[1, 3, 32] "state.3.wkv"
) => (
    float[1, tokens, 64] logits,
    float[1, 32, 3] "state.0.conv.next", float[1, 32, 16] "state.0.scan.next",
    float[1, 4, 8, 8] "state.1.memory.next", float[1, 32] "state.2.held.next",
    float[1, 3, 32] "state.3.wkv.next"
) {
    embedded = Gather (embed, input_ids)
    x = Transpose <perm = [0, 2, 1]> (embedded)
    mixed, "state.0.conv.next" = ladder.CausalConvWithState:silu <group = 32>
        (x, conv_weight, conv_bias, "state.0.conv")
    c = Transpose <perm = [0, 2, 1]> (mixed)
    step_raw = MatMul (c, "dt.weight")
    step = Softplus (step_raw)
    b = MatMul (c, "b.weight")
    read = MatMul (c, "c.weight")
    y0, "state.0.scan.next" = ladder.SelectiveScan (c, step, a, b, read, "state.0.scan")
    sum0 = Add (embedded, y0)
    h0 = RMSNormalization (sum0, ones)
    query = MatMul (h0, "q.weight")
    key = MatMul (h0, "k.weight")
    value = MatMul (h0, "v.weight")
    fade_raw = MatMul (h0, "fade.weight")
    fade_plus = Softplus (fade_raw)
    fade = Neg (fade_plus)
    rate_raw = MatMul (h0, "rate.weight")
    rate = Sigmoid (rate_raw)
    y1, "state.1.memory.next" = ladder.LinearAttention:gated_delta
        <q_num_heads = 4, kv_num_heads = 4, scale = 0.5>
        (query, key, value, "state.1.memory", fade, rate)
    sum1 = Add (h0, y1)
    h1 = RMSNormalization (sum1, ones)
    decay_raw = MatMul (h1, "decay.weight")
    decay = Sigmoid (decay_raw)
    y2, "state.2.held.next" = ladder.LinearRecurrence (h1, decay, "state.2.held")
    sum2 = Add (h1, y2)
    h2 = RMSNormalization (sum2, ones)
    wkv_key = MatMul (h2, "key.weight")
    wkv_value = MatMul (h2, "value.weight")
    y3, "state.3.wkv.next" = ladder.Wkv (wkv_key, wkv_value, wkv_decay, wkv_first, "state.3.wkv")
    h3 = Add (h2, y3)
    logits = MatMul (h3, "head.weight")
}"""
PRODUCTS = {
    "dt": WIDTH, "b": STATES, "c": STATES, "q": WIDTH, "k": WIDTH, "v": WIDTH, "fade": 4, "rate": 4,
    "decay": WIDTH, "key": WIDTH, "value": WIDTH, "head": VOCABULARY,
}  # fmt: skip


def write_recurrent(path: Path, seed: int = 0) -> Path:
    """Weights are random. Keys are short: the delta rule would diverge with long ones."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    weights = {f"{name}.weight": normal(WIDTH, n) / 8 for name, n in PRODUCTS.items()}
    weights["k.weight"] /= 4
    weights |= {"ones": np.ones(WIDTH, np.float32)}
    weights |= {"embed": normal(VOCABULARY, WIDTH), "a": -np.abs(normal(WIDTH, STATES))}
    weights |= {"conv_weight": normal(WIDTH, 1, 4) / 2, "conv_bias": normal(WIDTH)}
    weights |= {"wkv_decay": -np.abs(normal(WIDTH)), "wkv_first": normal(WIDTH)}
    model = onnx.parser.parse_model(TEXT)
    tensors = (onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    model.graph.initializer.extend(tensors)
    found: ir.Model = ir.from_proto(model)
    dialect.install(found)
    averages = next(v for v in found.graph.inputs if v.name == "state.3.wkv")
    averages.metadata_props[RESET_KEY] = json.dumps(WKV_RESET)
    ir.save(found, path)
    return path
