"""Graphs that are none: each is refused in one line that names the node or the tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases
from small_graphs import graph, random

from ladder.errors import LadderError
from ladder.frontend.onnx_check import check_graph
from ladder.frontend.onnx_file import load_onnx

TEXT = """g (float[3, 64] x) => (float[3, 24] y) {
    h = MatMul(x, w)  s = Softmax<axis=1>(h)  y = Add(s, b) }"""
Edit = Callable[[onnx.ModelProto], object]


def cut(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.raw_data = tensor.raw_data[:-3]


def reshape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 63


def no_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 0


def no_inputs(model: onnx.ModelProto) -> None:
    del model.graph.node[0].input[:]


def empty_input(model: onnx.ModelProto) -> None:
    model.graph.node[2].input[1] = ""


def text_axis(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute[0].CopyFrom(onnx.helper.make_attribute("axis", "one"))


def of_no_function(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute[0].ref_attr_name = "axis"


def no_value(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Concat"
    del model.graph.node[1].attribute[:]


CASES: list[tuple[Edit, str]] = [
    (cut, "the data of tensor 'w' do not fit its shape and type"),
    (reshape, "the data of tensor 'w' do not fit its shape and type"),
    (no_type, "the data of tensor 'w' do not fit its shape and type"),
    (no_inputs, r"node 'n0' \(MatMul\) has 0 inputs, and takes 2 to 2"),
    (empty_input, r"node 'n2' \(Add\) lacks its input 'B'"),
    (text_axis, r"node 'n1' \(Softmax\) has the attribute 'axis' of type STRING, not INT"),
    (of_no_function, r"node 'n1' \(Softmax\) takes its attribute 'axis' from a function, and is"),
    (no_value, r"node 'n1' \(Concat\) lacks its attribute 'axis'"),
]


@pytest.mark.parametrize(("edit", "message"), CASES, ids=[edit.__name__ for edit, _ in CASES])
def test_refused(edit: Edit, message: str, tmp_path: Path) -> None:
    model = graph(TEXT, {"w": random(64, 24), "b": random(24)})
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    edit(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LadderError, match=message) as caught:
        load_onnx(tmp_path / "model.onnx")
    said = str(caught.value)
    assert "\n" not in said and said.endswith(
        "; it is damaged or no valid ONNX: fetch it again, or check it with onnx.checker"
    )


@pytest.mark.models
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_model_of_the_standards_tests_passes() -> None:
    import onnx_ir as ir

    cases = collect_testcases(None)
    assert len(cases) > 1500
    for case in cases:
        check_graph(ir.from_proto(case.model), case.name)


@pytest.mark.parametrize("location", ["a" * 300, "\0", "no.bin"])
def test_external_data_that_no_file_has(location: str, tmp_path: Path) -> None:
    model = graph(TEXT, {"w": random(64, 24), "b": random(24)})
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location, 0, 64 * 24 * 4)
    tensor.ClearField("raw_data")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        LadderError, match=r"weight 'w' is in .*, which (cannot be read|is missing)"
    ):
        load_onnx(tmp_path / "model.onnx")


def test_external_data_of_another_size(tmp_path: Path) -> None:
    model = graph(TEXT, {"w": random(64, 24), "b": random(24)})
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "data.bin", 0, 96)
    model.graph.initializer[0].ClearField("raw_data")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "data.bin").write_bytes(bytes(64 * 24 * 4))
    with pytest.raises(LadderError, match=r"do not fit its shape .* 6144 bytes are needed"):
        load_onnx(tmp_path / "model.onnx")
