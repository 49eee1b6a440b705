"""A product of tokens with the experts that they choose, as a trace has it."""

from __future__ import annotations

import onnx_ir as ir
from small_graphs import graph, random

EXPERTS, CHOSEN, N, K = 5, 2, 24, 16
WEIGHT = "layers.0.mlp.experts.gate_up_proj"
TEXT = f"""g (float[3, {K}] x, int64[3, {CHOSEN}] chosen) => (float[6, {N}] y) {{
  flat_shape = Constant <value_ints = [-1]> ()
  one = Constant <value = int64[1] {{1}}> ()
  flat = Reshape(chosen, flat_shape)
  index = Unsqueeze(flat, one)
  same = Transpose <perm = [0, 1, 2]> ("{WEIGHT}")
  found = GatherND <batch_dims = 0> (same, index)
  weight = Transpose <perm = [0, 1, 2]> (found)
  doubled = Concat <axis = 1> (x, x)
  rows_shape = Constant <value_ints = [6, {K}]> ()
  rows = Reshape(doubled, rows_shape)
  last = Constant <value_ints = [2]> ()
  column = Unsqueeze(rows, last)
  product = MatMul(weight, column)
  y = Squeeze(product, last)
}}"""


def model(text: str = TEXT) -> ir.Model:
    made: ir.Model = ir.from_proto(graph(text, {WEIGHT: random(EXPERTS, N, K)}))
    return made
