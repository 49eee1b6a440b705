"""A file that computes something else than its low-bit weights mean does not get its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir
import pytest
from quantized import quantize_onnx
from small_graphs import graph, random

from ladder.errors import LadderError
from ladder.export import save
from ladder.export.emit import Emitter

WEIGHTS = {"w": random(64, 48), "b": random(48), "v": random(48, 32)}
MODEL = """g (float[t, 64] x) => (float[t, 32] y) {
    a = Gemm (x, w, b)
    s = Softmax <axis = 1> (a)
    y = MatMul (s, v)
}"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(graph(MODEL, WEIGHTS, opset=12), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    "options",
    [
        {"type": "int4:g32"},
        {"type": "nf4:g16", "format": "nbits"},
        {"type": "int8:row", "activation": "int8"},
        {"type": "int4:g32", "format": "nbits", "accuracy_level": 4},
    ],
)
def test_the_report_has_the_error(model: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    check = quantize_onnx(model, tmp_path / "q.onnx", **options)["check"]
    assert check["reason"] == "" and check["error"] < 1e-5


def test_a_wrong_weight_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each scale is that of the next row."""
    right = Emitter.scale
    monkeypatch.setattr(
        Emitter, "scale", lambda self, part, array: right(self, part, np.roll(array, 1, 0))
    )
    with pytest.raises(LadderError, match=r"differs from its low-bit weights by .*, first in Gemm"):
        quantize_onnx(model, tmp_path / "q.onnx", "int4:row")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_changed_meaning_in_a_newer_opset_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def converted(proto: onnx.ModelProto, target: int) -> onnx.ModelProto:
        made = right(proto, target)
        for node in made.graph.node:
            if node.op_type == "Softmax":
                node.attribute[0].i = 0
        return made

    right = onnx.version_converter.convert_version
    monkeypatch.setattr(onnx.version_converter, "convert_version", converted)
    with pytest.raises(LadderError, match="first in Softmax 's'; keep the site"):
        quantize_onnx(model, tmp_path / "q.onnx", "int4:g32", format="qdq")
    with pytest.raises(LadderError, match="first in Softmax 's'; keep the site"):
        quantize_onnx(model, tmp_path / "q.onnx", "int8:row", activation="int8")
    quantize_onnx(model, tmp_path / "q.onnx", "int4:g32", format="qdq", checked=False)


def test_a_file_that_does_not_load_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_one_name(model: ir.Model, file: Path) -> list[Path]:
        for node in model.graph:
            node.name = "same"
        return right(model, file)

    right = save._write
    monkeypatch.setattr(save, "_write", with_one_name)
    with pytest.raises(LadderError, match="ONNX Runtime does not load what would be written"):
        quantize_onnx(model, tmp_path / "q.onnx", "int8:row", format="nbits")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_an_original_that_does_not_run_is_reported(tmp_path: Path) -> None:
    text = "g (float[2, 64] x) => (float[2, 48] y) { z = custom.Unknown (x)  y = MatMul (z, w) }"
    onnx.save(graph(text, {"w": WEIGHTS["w"]}), tmp_path / "model.onnx")
    check = quantize_onnx(tmp_path / "model.onnx", tmp_path / "q.onnx", "int4:g32")["check"]
    assert check["error"] is None
    assert check["reason"].startswith("ONNX Runtime does not run the original")
