"""Blocks: where a model is cut, which blocks are equal, and what they read and write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from small_graphs import graph, random

from ladder.ir.blocks import Block, Chain, find_blocks
from ladder.pipeline.sources import load_source


def names(values: tuple[ir.Value, ...]) -> list[str | None]:
    return [v.name for v in values]


def shape(chain: Chain) -> tuple[int, int, int]:
    return len(chain.prologue), len(chain.middle), len(chain.epilogue)


def chain_of(text: str, weights: dict[str, np.ndarray]) -> Chain:
    model: ir.Model = ir.from_proto(graph(text, weights, 23))
    return find_blocks(model)


def square(*names: str) -> dict[str, np.ndarray]:
    return {name: random(8, 8, seed=i) for i, name in enumerate(names)}


RESIDUAL = """g (int64[T] ids, float[T, 8] state0, float[T, 8] state1)
    => (float[T, 8] y, float[T, 8] next0, float[T, 8] next1) {
  start = Gather(table, ids)
  wide = Cast<to=1>(ids)
  mask = Unsqueeze(wide, one)
  a0 = MatMul(start, q0) s0 = Add(a0, state0) next0 = Identity(s0) m0 = Mul(s0, mask)
  r0 = Add(start, m0)
  u0 = MatMul(r0, up0) t0 = Tanh(u0) x0 = Add(r0, t0)
  a1 = MatMul(x0, q1) s1 = Add(a1, state1) next1 = Identity(s1) m1 = Mul(s1, mask)
  r1 = Add(x0, m1)
  u1 = MatMul(r1, up1) t1 = Tanh(u1) x1 = Add(r1, t1)
  norm = Sigmoid(x1)
  head = Transpose<perm=[1, 0]>(table_head)
  y = MatMul(norm, head)
}"""


def residual() -> Chain:
    weights = {"table": random(32, 8), "one": np.array([1]), "table_head": random(8, 8)}
    return chain_of(RESIDUAL, {**weights, **square("q0", "q1", "up0", "up1")})


def test_a_residual_stream_is_cut_between_its_layers() -> None:
    chain = residual()
    assert shape(chain) == (1, 2, 1)
    first, second = chain.middle
    assert first.structure == second.structure
    assert [names(b.inputs) for b in chain.blocks] == [[], ["start"], ["x0"], ["x1"]]
    assert names(first.weights) == ["q0", "up0"] and names(second.weights) == ["q1", "up1"]


def test_states_and_masks_are_read_from_the_side() -> None:
    first, second = residual().middle
    assert names(first.sides) == ["state0", "mask"] and names(second.sides) == ["state1", "mask"]
    assert names(first.outputs) == ["next0", "x0"]
    side = residual().side
    assert [n.op_type for n in side.nodes] == ["Cast", "Unsqueeze"]
    assert names(side.outputs) == ["mask"] and names(side.sides) == ["ids"]


def test_a_transposed_weight_belongs_to_the_block_that_reads_it() -> None:
    (last,) = residual().epilogue
    assert [n.op_type for n in last.nodes] == ["Transpose", "Sigmoid", "MatMul"]
    assert names(last.weights) == ["table_head"]


MLP = """g (float[M, 8] x) => (float[M, 8] y) {
  a = MatMul(x, w0) b = Relu(a) c = MatMul(b, w1) d = Relu(c) e = MatMul(d, w2) y = Relu(e)
}"""


def test_a_chain_of_layers_is_cut_at_each() -> None:
    chain = chain_of(MLP, square("w0", "w1", "w2"))
    # The first reads the graph's input, the others the stream, so it differs from them.
    assert [[n.op_type for n in b.nodes] for b in chain.blocks] == [
        ["MatMul"],
        ["Relu", "MatMul"],
        ["Relu", "MatMul"],
        ["Relu"],
    ]
    assert shape(chain) == (1, 2, 1)


def test_unlike_layers_all_count_as_the_middle() -> None:
    text = "g (float[M, 4] x) => (float[M, 2] y) { a = MatMul(x, u) b = Relu(a) y = MatMul(b, v) }"
    chain = chain_of(text, {"u": random(4, 8), "v": random(8, 2)})
    assert shape(chain) == (0, 2, 0)
    assert [[n.op_type for n in b.nodes] for b in chain.blocks] == [["MatMul"], ["Relu", "MatMul"]]


def test_a_convolutional_network() -> None:
    text = """g (float[1, 3, 8, 8] x) => (float[1, 10] y) {
      a = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(x, c0) s = Relu(a)
      b = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(s, c1) b1 = Relu(b) t = Add(s, b1)
      c = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(t, c2) c1r = Relu(c) u = Add(t, c1r)
      p = GlobalAveragePool(u) f = Flatten(p) y = MatMul(f, w)
    }"""
    weights = {"c0": random(8, 3, 3, 3), "w": random(8, 10)}
    weights.update({name: random(8, 8, 3, 3) for name in ("c1", "c2")})
    chain = chain_of(text, weights)
    assert shape(chain) == (1, 2, 1)
    assert [names(b.inputs) for b in chain.blocks] == [[], ["s"], ["t"], ["u"]]


def test_branches_are_not_cut() -> None:
    text = """g (float[M, 8] x) => (float[M, 4] y) {
      whole = MatMul(x, w0) a, b = Split<axis=1, num_outputs=2>(whole)
      c = MatMul(a, w1) d = MatMul(b, w2) e = Mul(c, b) f = Mul(d, a) y = Add(e, f)
    }"""
    weights = {"w0": random(8, 8), "w1": random(4, 4), "w2": random(4, 4)}
    inner = chain_of(text, weights).blocks[1]
    assert len(inner.nodes) == 6 and names(inner.inputs) == ["whole"]


def test_a_single_weight_is_a_single_block() -> None:
    text = "g (float[M, 8] x) => (float[M, 8] y) { a = MatMul(x, w) b = Relu(a) y = Mul(b, x) }"
    chain = chain_of(text, square("w"))
    assert shape(chain) == (0, 1, 0) and len(chain.blocks[0].nodes) == 3


def test_no_weights_no_blocks() -> None:
    chain = chain_of("g (float[4] x) => (float[4] y) { y = Relu(x) }", {})
    assert chain.blocks == () and names(chain.side.outputs) == ["y"]


def test_an_embedding_that_every_layer_reads_is_carried_along() -> None:
    """Zamba: without that, nothing but the embedding itself would be a cut point."""
    text = """g (int64[T] ids) => (float[T, 8] y) {
      start = Gather(table, ids)
      a0 = MatMul(start, w0) j0 = Add(a0, start) b0 = Tanh(j0)
      a1 = MatMul(b0, w1) j1 = Add(a1, start) b1 = Tanh(j1)
      a2 = MatMul(b1, w2) j2 = Add(a2, start) b2 = Tanh(j2)
      y = MatMul(b2, head)
    }"""
    chain = chain_of(text, {"table": random(32, 8), **square("w0", "w1", "w2", "head")})
    assert [names(b.inputs) for b in chain.blocks] == [
        [],
        ["start"],
        ["b0", "start"],
        ["b1", "start"],
        ["b2"],
    ]
    assert shape(chain) == (2, 2, 1)


def test_another_constant_is_another_structure() -> None:
    """Shapes, axes and scalars steer the graph; float weights do not."""
    text = """g (float[M, 8] x) => (float[M, 8] y) {
      a = MatMul(x, w0) a1 = Mul(a, p) b = MatMul(a1, w1) b1 = Mul(b, p)
      c = MatMul(b1, w2) c1 = Mul(c, q) d = MatMul(c1, w3) y = Mul(d, q)
    }"""
    scalars = {"p": np.array(2, np.float32), "q": np.array(3, np.float32)}
    chain = chain_of(text, {**square("w0", "w1", "w2", "w3"), **scalars})
    assert len(chain.middle) < 3
    same = {name: scalars["p"] for name in scalars}
    assert shape(chain_of(text, {**square("w0", "w1", "w2", "w3"), **same})) == (1, 3, 1)


def assert_whole(model: ir.Model, chain: Chain) -> None:
    """Every node is in a block or is a side node; each block reads values of earlier ones."""
    made = {v.name for v in (*model.graph.inputs, *chain.side.outputs)}
    held = {id(n) for n in chain.side.nodes}
    for block in chain.blocks:
        assert {v.name for v in (*block.inputs, *block.sides)} <= made
        made |= {v.name for v in block.outputs}
        held |= {id(n) for n in block.nodes}
    assert held == {id(n) for n in model.graph}


def correspond(a: Block, b: Block) -> bool:
    """The lists of blocks with equal structure correspond one to one."""
    same_nodes = [n.op_type for n in a.nodes] == [n.op_type for n in b.nodes]
    shapes = [[v.shape for v in x.weights] for x in (a, b)]
    return same_nodes and shapes[0] == shapes[1] and len(a.sides) == len(b.sides)


@pytest.mark.models
def test_a_traced_language_model_has_a_block_a_layer(tiny_folder: Path) -> None:
    model = load_source(tiny_folder).model
    chain = find_blocks(model)
    assert shape(chain) == (1, 2, 1)
    assert correspond(*chain.middle)
    assert_whole(model, chain)
    assert [len(b.inputs) for b in chain.blocks] == [0, 1, 1, 1]


@pytest.mark.models
def test_a_hybrid_of_attention_and_state_space_has_a_block_a_layer() -> None:
    import torch
    from transformers import FalconH1Config, FalconH1ForCausalLM

    from ladder.frontend.torch_module import trace

    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    mamba = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1}
    config = FalconH1Config(
        hidden_size=32,
        num_hidden_layers=2,
        vocab_size=64,
        intermediate_size=48,
        mamba_d_state=8,
        mamba_chunk_size=8,
        **heads,
        **mamba,
    )

    class Logits(torch.nn.Module):  # type: ignore[misc]
        inner = FalconH1ForCausalLM(config).eval()

        def forward(self, ids: Any) -> Any:
            return self.inner(input_ids=ids, use_cache=False).logits

    model = trace(Logits(), (torch.zeros(1, 8, dtype=torch.long),))
    chain = find_blocks(model)
    assert shape(chain) == (1, 2, 1)
    assert correspond(*chain.middle)
    assert_whole(model, chain)
