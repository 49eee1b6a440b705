"""Export of convolutions: standard operators with the decoded kernel, none of ONNX Runtime's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from quantized import quantize_onnx
from small_graphs import assert_same, checked, graph, meaning, op_types, quantized, random, stock

from ladder.errors import LadderError
from ladder.export.onnx_out import FileForm, rewrite

TYPES = ("int4:g32", "int8:row", "ternary:tensor", "mxfp8", "nf4:g20", "uint4:g32:zpf")
FLAT = "g (float[1, 12, 9] x) => (float[1, 7, L] y) { y = Conv(x, w) }"
BIASED = """g (float[2, 12, 9, 8] x) => (float[2, 8, H, W] y) {
    y = Conv<strides = [2, 1], pads = [1, 1, 1, 1]>(x, w, b)
}"""
DEPTHWISE = "g (float[1, 6, 9, 8] x) => (float[1, 6, H, W] y) { y = Conv<group = 6>(x, w, b) }"
ONE_TAP = "g (float[1, 40, 4, 4] x) => (float[1, 8, 4, 4] y) { y = Conv(x, w, b) }"
CASES = {
    "flat": (FLAT, (7, 12, 3), (1, 12, 9)),
    "biased": (BIASED, (8, 12, 3, 3), (2, 12, 9, 8)),
    "depthwise": (DEPTHWISE, (6, 1, 3, 3), (1, 6, 9, 8)),
    "one tap": (ONE_TAP, (8, 40, 1, 1), (1, 40, 4, 4)),
}


def convolution(name: str, opset: int = 21) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    text, kernel, x = CASES[name]
    weights = {"w": random(*kernel), **({"b": random(kernel[0], seed=2)} if ", b)" in text else {})}
    return graph(text, weights, opset), {"x": random(*x, seed=1)}


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("name", CASES)
def test_stock_runtime_computes_the_meaning(name: str, type: str) -> None:
    proto, feeds = convolution(name)
    model = quantized(proto, type)
    wanted = meaning(model, feeds)
    rewrite(model, FileForm("qdq"))
    checked(model)
    assert_same(stock(model, feeds), wanted)


@pytest.mark.parametrize(
    ("name", "type", "steps"),
    [
        ("biased", "int8:row", ["DequantizeLinear", "Conv"]),
        ("biased", "int8:g12", ["DequantizeLinear", "Reshape", "Transpose", "Reshape", "Conv"]),
        ("depthwise", "int8:g3", ["DequantizeLinear", "Reshape", "Conv"]),
        ("one tap", "int8:g20", ["DequantizeLinear", "Reshape", "Conv"]),
    ],
)
def test_the_bias_goes_back_into_the_conv(name: str, type: str, steps: list[str]) -> None:
    proto, _ = convolution(name, 13)
    proto.graph.node[0].name = "conv"
    model = quantized(proto, type)
    rewrite(model, FileForm("qdq"))
    assert op_types(model) == steps
    conv = model.graph[-1]
    assert conv.name == "conv" and [v.name for v in conv.inputs if v][2] == "b"
    if name == "biased":
        assert conv.attributes["strides"].as_ints() == (2, 1)
        assert conv.attributes["pads"].as_ints() == (1, 1, 1, 1)


def test_nbits_leaves_them_float(tmp_path: Path) -> None:
    text = """g (float[1, 12, 9] x) => (float[1, 48, 40] y) {
        h = Conv(x, w)
        y = MatMul(h, v)
    }"""
    onnx.save(graph(text, {"w": random(48, 12, 3), "v": random(7, 40)}), tmp_path / "in.onnx")
    report = quantize_onnx(tmp_path / "in.onnx", tmp_path / "out.onnx", "int8:row", format="nbits")
    (left,) = report["skipped"]
    assert (left["name"], left["reason"]) == ("h", "ONNX Runtime has no low-bit convolution")
    model: ir.Model = ir.load(tmp_path / "out.onnx")
    assert op_types(model) == ["Conv", "MatMulNBits"]


def test_nbits_refuses_a_rounded_convolution() -> None:
    proto, _ = convolution("flat")
    with pytest.raises(
        LadderError, match="site y: int8:row has no nbits form: ONNX Runtime has no"
    ):
        rewrite(quantized(proto, "int8:row"), FileForm("nbits"))


TWICE = """g (float[1, 8, 9, 8] x) => (float[1, 8, 5, 4] y) {{
    a = Conv(x, w, b)
    r = Relu(a)
    y = Conv(r, {weight}, {bias})
}}"""


@pytest.mark.parametrize("weight", ["w", "v"])
@pytest.mark.parametrize("bias", ["b", "c"])
def test_equal_convolutions_share_what_rounding_added(weight: str, bias: str) -> None:
    """Merging equal nodes makes one of the shapes, and one of the columns, of two biases."""
    weights = {
        **{name: random(8, 8, 3, 3, seed=i) for i, name in enumerate({"w", weight})},
        **{name: random(8, seed=5 + i) for i, name in enumerate({"b", bias})},
    }
    model = quantized(graph(TWICE.format(weight=weight, bias=bias), weights), "int8:row")
    feeds = {"x": random(1, 8, 9, 8, seed=9)}
    wanted = meaning(model, feeds)
    rewrite(model, FileForm(activation="int8:token"))
    checked(model)
    assert op_types(model).count("Conv") == 2 and "Reshape" not in op_types(model)
    assert_same(stock(model, feeds), wanted)
