"""Convolutions: low-bit and lowered, they equal Conv over the rounded weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import (
    NEWEST_OPSET,
    Arrays,
    assert_same,
    checked,
    graph,
    meaning,
    op_types,
    quantized,
    random,
)

from ladder.ir.dump import dump_text
from ladder.ir.shapes import static_shape
from ladder.ir.site import SITE_KEY
from ladder.ir.verify import verify
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import run_passes
from ladder.passes.lower_convolutions import LowerConvolutions
from ladder.reference import Reference

TYPES = ("int4:g32", "int8:row")


@dataclass(frozen=True)
class Case:
    """A Conv of an input [B, C, *size]; ``options`` are its attributes as ONNX text."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    options: str = ""
    channels: int = 4
    outputs: int = 6
    group: int = 1
    bias: bool = False
    batch: int = 2

    @property
    def weights(self) -> dict[str, np.ndarray]:
        weight = random(self.outputs, self.channels // self.group, *self.kernel)
        bias = {"b": random(self.outputs, seed=1)} if self.bias else {}
        return {"conv1.weight": weight, **bias}

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return {"x": random(self.batch, self.channels, *self.size, seed=2)}

    def proto(self, weights: Arrays, open: bool = False) -> onnx.ModelProto:
        """``open``: no dimension of the input but its channels is known."""
        size = [f"S{i}" for i in range(len(self.size))] if open else self.size
        dims = ", ".join(map(str, ["B" if open else self.batch, self.channels, *size]))
        out = ", ".join(["F"] * (len(self.size) + 2))
        options = ", ".join(filter(None, [self.options, f"group = {self.group}"]))
        call = f'Conv<{options}>(x, "conv1.weight"{", b" if self.bias else ""})'
        text = f"g (float[{dims}] x) => (float[{out}] y) {{ y = {call} }}"
        return graph(text, weights, NEWEST_OPSET)

    def on_rounded_weights(self, model: ir.Model) -> list[np.ndarray]:
        """ONNX Runtime's Conv over the decoded codes of ``model``."""
        values = model.graph.initializers
        codes, scale = (_numpy(values[f"conv1.{part}"]) for part in ("codes", "scale"))
        n, k = codes.shape
        every = np.repeat(scale, 32, axis=1)[:, :k] if scale.shape[1] > 1 else scale
        rows = codes.astype(np.float32) * every
        by_tap = rows.reshape(n, *self.kernel, self.channels // self.group)
        weights = {**self.weights, "conv1.weight": np.moveaxis(by_tap, -1, 1).copy()}
        return meaning(ir.from_proto(self.proto(weights)), self.feeds)


def _numpy(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy()


def check(case: Case, type: str, open: bool = False) -> ir.Model:
    """The low-bit and the lowered model compute the same Conv; returns the lowered one."""
    model = quantized(case.proto(case.weights, open), type)
    assert "LowBitConv" in op_types(model)
    wanted = case.on_rounded_weights(model)
    assert_same(meaning(model, case.feeds), wanted)
    run_passes(model, [LowerConvolutions()])
    assert "LowBitConv" not in op_types(model)
    assert_same(meaning(model, case.feeds), wanted)
    checked(model)  # the shapes that the pass writes are those that ONNX infers
    return model


CASES = {
    "1x1": Case((5, 7), (1, 1), channels=40),
    "1x1 with strides": Case((5, 8), (1, 1), "strides = [2, 3]"),
    "1x1 with pads": Case((5, 7), (1, 1), "pads = [1, 0, 0, 2]", bias=True),
    "3x3": Case((6, 5), (3, 3), "pads = [1, 1, 1, 1]", channels=16, bias=True),
    "3x3 stride 2": Case((9, 8), (3, 3), "pads = [1, 1, 1, 1], strides = [2, 2]"),
    "uneven": Case((9, 11), (2, 3), "pads = [0, 2, 1, 0], strides = [3, 2], dilations = [2, 1]"),
    "dilated": Case((9, 9), (3, 3), "dilations = [2, 3], pads = [2, 3, 2, 3]", bias=True),
    "column": Case((9, 4), (5, 1), "strides = [2, 1]"),
    "7x7 on 3 channels": Case(
        (15, 14), (7, 7), "pads = [3, 3, 3, 3], strides = [2, 2]", channels=3
    ),
    "1-D": Case((13,), (4,), "strides = [2], dilations = [2], pads = [3, 1]", bias=True),
    "1-D pointwise": Case((13,), (1,), channels=33),
    "3-D": Case((4, 5, 6), (3, 2, 1), "strides = [1, 2, 2], pads = [1, 0, 0, 1, 1, 0]", bias=True),
    "depthwise": Case((7, 6), (3, 3), "pads = [1, 1, 1, 1], strides = [2, 1]", group=4, outputs=4),
    "depthwise, two each": Case((7, 6), (3, 3), group=4, outputs=8, bias=True),
    "depthwise 1-D": Case((9,), (3,), "dilations = [2]", group=4, outputs=4),
    "groups": Case((6, 6), (3, 3), "pads = [1, 1, 1, 1]", channels=12, group=3, bias=True),
    "groups 1x1": Case((5, 5), (1, 1), channels=12, group=3),
    "groups 3-D": Case((4, 5, 4), (2, 2, 2), "strides = [2, 1, 2]", channels=4, group=2),
    "VALID": Case((6, 5), (3, 3), 'auto_pad = "VALID"'),
    "SAME_UPPER": Case((6, 5), (4, 2), 'auto_pad = "SAME_UPPER"'),
    "SAME_LOWER": Case((6, 5), (4, 2), 'auto_pad = "SAME_LOWER"', bias=True),
    "SAME_UPPER, strides": Case((9, 10), (3, 4), 'auto_pad = "SAME_UPPER", strides = [2, 3]'),
    "SAME_LOWER, strides": Case((9, 10), (4, 3), 'auto_pad = "SAME_LOWER", strides = [2, 2]'),
    "SAME_LOWER, depthwise": Case((9, 8), (3, 2), 'auto_pad = "SAME_LOWER"', group=4, outputs=4),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("type", TYPES)
def test_computes_the_convolution(type: str, case: Case) -> None:
    check(case, type)


@pytest.mark.parametrize("name", ["3x3 stride 2", "dilated", "1-D", "groups", "SAME_UPPER"])
def test_open_sizes(name: str) -> None:
    """Slices count from the end: no size of the input is needed."""
    check(CASES[name], "int4:g32", open=True)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rank = draw(st.integers(1, 3))

    def some(low: int, high: int, count: int = rank) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(count))

    kernel, strides, dilations = some(1, 3), some(1, 3), some(1, 2)
    pads, group = some(0, 2, 2 * rank), draw(st.sampled_from([1, 1, 2, 4]))
    size = tuple(
        (k - 1) * d + extra for k, d, extra in zip(kernel, dilations, some(1, 5), strict=True)
    )
    texts = {"strides": strides, "dilations": dilations, "pads": pads}
    options = ", ".join(f"{name} = {list(values)}" for name, values in texts.items())
    channels = group * draw(st.sampled_from([2, 3, 9]))
    return Case(size, kernel, options, channels, 4, group, draw(st.booleans()), 1)


@settings(max_examples=60)
@given(case=cases(), type=st.sampled_from(TYPES))
def test_computes_any_convolution(case: Case, type: str) -> None:
    check(case, type)


@pytest.mark.parametrize(
    "type", ["uint4:row:zp", "uint4:g32:zpf", "ternary:tensor", "nf4:g64", "mxfp4", "nvfp4"]
)
def test_other_types(type: str) -> None:
    """Lowering is the same for every kind of operands."""
    for case in (CASES["3x3 stride 2"], CASES["groups"]):
        model = quantized(case.proto(case.weights), type)
        wanted = meaning(model, case.feeds)
        run_passes(model, [LowerConvolutions()])
        assert_same(meaning(model, case.feeds), wanted)


def test_reference_runs_low_bit_convolutions() -> None:
    """ONNX Runtime with its optimizations, as ``ladder.reference`` uses it."""
    case = CASES["uneven"]
    model = quantized(case.proto(case.weights), "int4:g32")
    (got,) = Reference(model, threads=1).run(case.feeds).values()
    assert_same([got], case.on_rounded_weights(model))


def test_sizes_reach_the_product() -> None:
    """The choice of a kernel depends on the number of rows."""
    model = check(CASES["3x3 stride 2"], "int4:g32")
    product = next(node for node in model.graph if node.op_type == "LowBitMatMul")
    assert static_shape(product.inputs[0]) == (2, 5, 4, 36)
    assert product.metadata_props[SITE_KEY] == "conv1"


def test_subgraphs() -> None:
    text = """g (float[1, 4, 5, 5] x, bool c) => (float[1, 6, 3, 3] y) {
        y = If(c) <then_branch = yes () => (float[1, 6, 3, 3] a) { a = Conv(x, w, b) },
                   else_branch = no () => (float[1, 6, 3, 3] d) { e = Neg(x) d = Conv(e, w, b) }>
    }"""
    weights = {"w": random(6, 4, 3, 3), "b": random(6, seed=1)}
    model = quantized(graph(text, weights), "int8:row")
    feeds = {"x": random(1, 4, 5, 5, seed=2), "c": np.array(False)}
    wanted = meaning(model, feeds)
    run_passes(model, [LowerConvolutions()])
    assert "LowBitConv" not in op_types(model)
    assert_same(meaning(model, feeds), wanted)


def test_a_computed_bias() -> None:
    text = "g (float[1, 4, 5] x, float[6] b) => (float[1, 6, 3] y) { c = Neg(b) y = Conv(x, w, c) }"
    weights, feeds = {"w": random(6, 4, 3)}, {"x": random(1, 4, 5), "b": random(6, seed=1)}
    model = quantized(graph(text, weights), "int8:row")
    (wanted,) = meaning(ir.from_proto(graph(text, weights)), feeds)
    (got,) = meaning(model, feeds)
    assert np.abs(got - wanted).max() <= 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("attribute", "problem"),
    [
        ("pads", "node y: LowBitConv has no pads"),
        ("group", "node y: the weight [6, 36] does not fit its window and groups"),
        ("kernel_shape", "node y: the weight [6, 36] does not fit its window and groups"),
    ],
)
def test_broken_windows_are_found(attribute: str, problem: str) -> None:
    case = Case((6, 6), (3, 3))
    model = quantized(case.proto(case.weights), "int4:g32")
    node = model.graph[0]
    assert verify(model) is None
    node.name = "y"
    if attribute == "pads":
        del node.attributes["pads"]
    elif attribute == "group":
        node.attributes["group"] = ir.AttrInt64("group", 5)
    else:
        node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", [5, 3])
    assert verify(model) == problem


THREE = """g (float[1, 2, 6, 6] x) => (float[1, 3, 3, 3] y) {
    a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, "stem.weight", "stem.bias")
    r = Relu(a)
    d = Conv<pads = [1, 1, 1, 1], group = 4>(r, "depth.weight")
    y = Conv(d, "point.weight")
}"""
THREE_WEIGHTS = {
    "stem.weight": np.ones((4, 2, 3, 3), np.float32),
    "stem.bias": np.ones(4, np.float32),
    "depth.weight": np.ones((4, 1, 3, 3), np.float32),
    "point.weight": np.ones((3, 4, 1, 1), np.float32),
}


def test_lower_convolutions(golden: Callable[[str], None]) -> None:
    """A strided window with a bias, a depthwise one, a pointwise one."""
    model = quantized(graph(THREE, THREE_WEIGHTS), "int4:g32")
    before = dump_text(model)
    run_passes(model, parse_pipeline("lower-convolutions"))
    golden(f"{before}\n--> lower-convolutions\n\n{dump_text(model)}")
