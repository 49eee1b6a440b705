"""The states of a language model, from a frontend or from a graph's naming convention."""

from __future__ import annotations

import json
from pathlib import Path

import onnx_ir as ir
import pytest
from hybrid_graph import write_hybrid
from small_graphs import graph

from ladder.frontend.load import load
from ladder.frontend.onnx_file import load_onnx
from ladder.frontend.types import Source, states_of
from ladder.ir.states import RECURRENT, ROWS, WINDOW, StateSpec
from ladder.pipeline.sources import load_source

SCATTER = """g (int64[1, tokens] input_ids, int64[1] position,
    float[1, 1, 8, 4] "state.0.key", float[1, 1, 1, 4] row) => (
    float[1, tokens, 4] logits, float[1, 1, 8, 4] "state.0.key.next") {
    logits = Gather("table", input_ids)
    "state.0.key.next" = TensorScatter<axis = -2, mode = "circular">("state.0.key", row, position)
}"""
CONCATENATED = """g (int64[1, tokens] input_ids, int64[1] position,
    float[1, 1, context, 4] "state.0.key") => (
    float[1, tokens, 4] logits, float[1, 1, after, 4] "state.0.key.next") {
    logits = Gather("table", input_ids)
    one = Constant<value_ints = [1]>()
    rows = Unsqueeze(logits, one)
    "state.0.key.next" = Concat<axis = 2>("state.0.key", rows)
}"""


def source(text: str) -> Source:
    model = ir.from_proto(graph(text, {}, opset=24))
    return Source(model, "g", "g", states=states_of(model))


def test_an_onnx_file(tmp_path: Path) -> None:
    found = load_onnx(write_hybrid(tmp_path / "hybrid.onnx"))
    assert found.is_language_model
    assert found.states == (
        StateSpec("state.0.rows", (1, 1, "context", 16), "float32", ROWS, 2),
        StateSpec("state.0.sum", (1, 16), "float32", RECURRENT, reset=0.0),
    )


def test_rows_that_wrap_around_are_a_window() -> None:
    assert source(SCATTER).states == (StateSpec("state.0.key", (1, 1, 8, 4), "float32", WINDOW, 2),)


def test_a_model_with_an_unknown_input_is_not_a_language_model() -> None:
    assert not source(SCATTER).is_language_model


def test_a_cache_that_grows_by_concatenation_is_not_a_state() -> None:
    """No buffer could hold its output."""
    found = source(CONCATENATED)
    assert found.states == () and not found.is_language_model


@pytest.mark.models
def test_a_traced_model_has_keys_and_values(tiny_folder: Path) -> None:
    """The frontend's description equals that of the graph, and the cache of traces keeps it."""
    traced, cached = load(tiny_folder), load_source(tiny_folder)
    parts = [f"state.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
    shape = (1, 2, "context", 16)
    assert traced.states == tuple(StateSpec(name, shape, "float32", ROWS, 2) for name in parts)
    assert cached.states == states_of(cached.model) == states_of(traced.model) == traced.states
    assert json.loads(json.dumps(cached.to_json()))["states"][0]["shape"] == list(shape)
