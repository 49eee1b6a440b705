"""Operators that ONNX defines as functions mean the same after they are expanded."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from compiled import run_compiled
from kernel_cases import HERE
from small_graphs import graph, stock

from ladder.codegen.known_operators import is_known
from ladder.passes.expand_operators import EXPANDED
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.phases import bind

NEWEST = 28
LEFT = {"Bernoulli", "SequenceMap"}  # random numbers and sequences, which have no kernels either
X, TARGET = "float[3, 5] x", "int64[3] t"
LOSS = "l, p = SoftmaxCrossEntropyLoss <ignore_index = 1> (x, t, w) y = Add (p, l)"
CASES = {
    "Celu": (12, f"g ({X}) => (float[3, 5] y) {{ a = Celu <alpha = 2.0> (x) y = Celu (a) }}"),
    "CenterCropPad": (18, f"g ({X}) => (float[M, N] y) {{ y = CenterCropPad (x, s) }}"),
    "Swish": (24, f"g ({X}) => (float[3, 5] y) {{ a = Swish <alpha = 0.5> (x) y = Swish (a) }}"),
    "SoftmaxCrossEntropyLoss": (13, f"g ({X}, {TARGET}) => (float[3, 5] y) {{ {LOSS} }}"),
    "SoftmaxCrossEntropyLoss in a newer opset": (
        25,
        f"g ({X}, {TARGET}) => (float[3, 5] y) {{ {LOSS} }}",
    ),
    "HannWindow": (17, f"g ({X}) => (float[3, 5] y) {{ a = HannWindow (n) y = Mul (x, a) }}"),
}
WEIGHTS = {
    "s": np.array([4, 3]),
    "w": np.linspace(0.5, 2, 5, dtype=np.float32),
    "n": np.array(5),
}
FEEDS = {
    "x": np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32),
    "t": np.array([4, 1, 0]),
}


def expanded(opset: int, text: str) -> tuple[ir.Model, np.ndarray, dict[str, np.ndarray]]:
    """The model without those operators, what the original computes, and its inputs."""
    weights = {name: array for name, array in WEIGHTS.items() if f"{name})" in text}
    model: ir.Model = ir.from_proto(graph(text, weights, opset))
    feeds = {value.name: FEEDS[value.name] for value in model.graph.inputs if value.name}
    (wanted,) = stock(model, feeds)
    run_passes(model, bind(""))
    assert not EXPANDED & {node.op_type for node in model.graph}
    return model, wanted, feeds


@pytest.mark.parametrize("name", CASES)
def test_an_expanded_operator_means_the_same(name: str) -> None:
    model, wanted, feeds = expanded(*CASES[name])
    (got,) = stock(model, feeds)
    assert got.shape == wanted.shape and np.abs(got - wanted).max() < 1e-6


def test_in_a_branch() -> None:
    text = f"""g ({X}, bool c) => (float[3, 5] y) {{ y = If (c) <
        then_branch = t () => (float[3, 5] a) {{ a = Celu (x) }},
        else_branch = e () => (float[3, 5] b) {{ b = Relu (x) }}> }}"""
    model = ir.from_proto(graph(text, {}, 21))
    run_passes(model, bind(""))
    assert "Celu" not in {node.op_type for node in model.graph.all_nodes()}
    (got,) = stock(model, {"x": FEEDS["x"], "c": np.array(True)})
    assert np.abs(got - np.where(FEEDS["x"] > 0, FEEDS["x"], np.expm1(FEEDS["x"]))).max() < 1e-6


def test_an_operator_of_a_newer_opset_is_left_alone() -> None:
    """It is none of ONNX's in this model, so nothing is known of it."""
    model = ir.from_proto(graph(CASES["Swish"][1], {}, 21))
    run_passes(model, bind(""))
    assert [node.op_type for node in model.graph] == ["Swish", "Swish"]


@pytest.mark.kernels
@pytest.mark.parametrize("name", ["Celu", "CenterCropPad", "SoftmaxCrossEntropyLoss"])
def test_what_is_expanded_has_kernels(name: str) -> None:
    model, wanted, feeds = expanded(*CASES[name])
    (got,) = run_compiled(model, HERE[0], feeds).outputs
    assert got.shape == wanted.shape and np.abs(got - wanted).max() < 1e-5


@pytest.mark.kernels
def test_the_list_is_complete() -> None:
    """Of ONNX's own operators: every function that nothing else translates."""
    without = {
        schema.name
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.domain == ""
        and schema.since_version <= NEWEST
        and (schema.has_function or schema.has_context_dependent_function)
        and not is_known("", schema.name)
    }
    recurrent = {"CausalConvWithState", "LinearAttention"}  # of the dialect, with kernels of ours
    assert without == EXPANDED | LEFT | recurrent
