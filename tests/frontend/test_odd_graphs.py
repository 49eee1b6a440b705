"""Graphs that are legal and rare: read right, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_function, make_node, make_opsetid, make_sparse_tensor
from onnx.helper import make_tensor_value_info as info
from onnx.numpy_helper import from_array
from quantized import quantize_onnx
from small_graphs import graph, random, stock

import ladder
import ladder.runtime
from ladder.errors import LadderError, NothingToQuantize
from ladder.runtime.session import Session

PLAIN = "g (float[5, 64] x) => (float[5, 96] y) { [mm] y = MatMul (x, W) }"
W = random(64, 96)
FEEDS = {"x": random(5, 64, seed=1)}
Change = Callable[[onnx.ModelProto], object]


def old_inputs(model: onnx.ModelProto) -> None:
    """IR version 3: every weight is an input too."""
    model.ir_version = 3
    model.opset_import[0].version = 11
    model.graph.input.append(info("W", TensorProto.FLOAT, [64, 96]))


def spelled_out(model: onnx.ModelProto) -> None:
    model.opset_import[0].domain = "ai.onnx"
    model.graph.node[0].domain = "ai.onnx"


def sparse(model: onnx.ModelProto) -> None:
    del model.graph.initializer[:]
    values, places = from_array(random(3), "W"), from_array(np.array([5, 70, 900]), "places")
    model.graph.sparse_initializer.append(make_sparse_tensor(values, places, [64, 96]))


def sparse_by_axis(model: onnx.ModelProto) -> None:
    del model.graph.initializer[:]
    values, places = from_array(random(2), "W"), from_array(np.array([[5, 70], [9, 0]]), "places")
    model.graph.sparse_initializer.append(make_sparse_tensor(values, places, [64, 96]))


def function(model: onnx.ModelProto) -> None:
    body = [
        make_node("Constant", [], ["W"], value=model.graph.initializer[0]),
        make_node("MatMul", ["a", "W"], ["o"]),
    ]
    model.functions.append(make_function("my", "L", ["a"], ["o"], body, [make_opsetid("", 21)]))
    model.opset_import.append(make_opsetid("my", 1))
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.append(make_node("L", ["x"], ["y"], domain="my"))


def strange_scopes(model: onnx.ModelProto) -> None:
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="not a list")


def weight_as_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(info("W", TensorProto.FLOAT, [64, 96]))


def trained(model: onnx.ModelProto) -> None:
    model.training_info.add()
    model.graph.quantization_annotation.add(tensor_name="y")


def without_shapes(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")


def without_names(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_value")


def in_branches(model: onnx.ModelProto) -> None:
    """Both branches and the main graph multiply x by W."""

    def branch(name: str) -> onnx.GraphProto:
        out = info(name, TensorProto.FLOAT, [5, 96])
        node = make_node("MatMul", ["x", "W"], [name], name=f"{name}mm")
        return onnx.helper.make_graph([node], name, [], [out])

    model.graph.input.append(info("c", TensorProto.BOOL, []))
    model.graph.node[0].output[0] = "m"
    model.graph.node.append(
        make_node("If", ["c"], ["z"], then_branch=branch("t"), else_branch=branch("e"))
    )
    model.graph.node.append(make_node("Add", ["z", "m"], ["y"]))


CASES: list[tuple[Change, str]] = [
    (old_inputs, "weights that were also graph inputs are now constants: W"),
    (spelled_out, ""),
    (sparse, "the sparse weight W is dense now"),
    (sparse_by_axis, "the sparse weight W is dense now"),
    (function, "local functions are inlined, because they hold weights: my.L"),
    (strange_scopes, ""),
    (weight_as_output, ""),
    (trained, "annotations of quantized values are not kept"),
    (without_shapes, ""),
    (without_names, ""),
    (in_branches, ""),
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Change], Path]:
    def write(change: Change) -> Path:
        model = graph(PLAIN, {"W": W})
        change(model)
        onnx.save(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return write


@pytest.mark.parametrize("format", ["qdq", "nbits"])
@pytest.mark.parametrize(("change", "note"), CASES)
def test_quantized(write: Callable[..., Path], change: Change, note: str, format: str) -> None:
    model = write(change)
    target = model.with_name("q.onnx")
    report = quantize_onnx(model, target, "int8:row", format=format)
    assert len(report["sites"]) == (3 if change is in_branches else 1)
    assert not note or note in report["notes"]
    feeds: dict[str, Any] = {**FEEDS, "c": np.array(True)} if change is in_branches else FEEDS
    wanted, got = stock(model, feeds), stock(target, feeds)
    assert np.abs(wanted[0] - got[0]).max() < 0.02 * np.abs(wanted[0]).max()


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("change", "dims"),
    [(function, ()), (weight_as_output, ()), (without_names, ("x.0=5",)), (in_branches, ())],
)
def test_compiled(write: Callable[..., Path], change: Change, dims: tuple[str, ...]) -> None:
    model = write(change)
    report = ladder.compile(model, model.with_name("art"), type="int8:row", dims=dims)
    assert report.check["error"] is not None
    feeds: dict[str, Any] = {**FEEDS, "c": np.array(False)} if change is in_branches else FEEDS
    loaded = ladder.runtime.load(model.with_name("art"))
    assert isinstance(loaded, Session)
    got = loaded.run(feeds)
    for name, wanted in zip(got, stock(model, feeds), strict=True):
        assert np.abs(wanted - got[name]).max() < 0.02 * np.abs(wanted).max()


def test_sites_in_branches_stay_float_in_an_artifact(write: Callable[..., Path]) -> None:
    model = write(in_branches)
    report = ladder.compile(model, model.with_name("art"), type="int8:row")
    reasons = {row["name"]: row["reason"] for row in report.skipped}
    assert set(reasons) == {"tmm", "emm"} and "in a branch or a loop" in reasons["tmm"]


def test_a_shape_that_is_not_known_is_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(LadderError, match="input x has no known type or shape; export the model"):
        ladder.compile(write(without_shapes), write(without_shapes).with_name("art"))


def test_an_open_dimension_without_a_name_gets_one(write: Callable[..., Path]) -> None:
    model = write(without_names)
    with pytest.raises(LadderError, match=r"open dimensions \[x\.0,64\]; bind them with --dim"):
        ladder.compile(model, model.with_name("art"))


EMPTY = "g (float[5, 0] x) => (float[5, 96] y) { h = MatMul (x, Z)  y = Add (h, b) }"


def test_an_empty_weight_stays_as_it_is(tmp_path: Path) -> None:
    onnx.save(graph(EMPTY, {"Z": W[:0], "b": random(96)}), tmp_path / "model.onnx")
    for call in (quantize_onnx, ladder.compile):
        with pytest.raises(NothingToQuantize, match="MatMul: its weight is empty"):
            call(tmp_path / "model.onnx", tmp_path / "out", type="int8:row")


RESHAPED = """g (float[5, 64] x, int64[2] s) => (float[p, q] y) {
    h = MatMul (x, W)  y = Reshape (h, s)
}"""


def test_what_tvm_cannot_convert_is_refused_by_name(tmp_path: Path) -> None:
    onnx.save(graph(RESHAPED, {"W": W}), tmp_path / "model.onnx")
    with pytest.raises(LadderError, match="Reshape 'y' has no kernel: TVM's ONNX frontend cannot"):
        ladder.compile(tmp_path / "model.onnx", tmp_path / "art", checked=False)
