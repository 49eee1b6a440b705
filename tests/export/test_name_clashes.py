"""A model may have the names that Ladder gives: its own values and nodes keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.helper import make_node
from onnx.numpy_helper import from_array
from quantized import quantize_onnx
from small_graphs import graph, random, stock

import ladder
import ladder.runtime
from ladder.frontend.load import load
from ladder.ir.names import named
from ladder.options.requests import CompileOptions
from ladder.passes.infra.runner import run_passes
from ladder.pipeline import phases
from ladder.runtime.session import Session

WEIGHTS = {"w": random(64, 48), "b": random(48), "v": random(48, 32), "k": random(8, 4, 3)}
# A Gemm with a bias, a convolution, and nodes without names.
TEXT = """g (float[2, 64] x, float[1, 4, 16] c) => (float[2, 32] y, float[1, 8, 14] z,
    float[2, 32] last) {
    [fc] h = Gemm (x, w, b)
    y = MatMul (h, v)
    z = Conv (c, k)
}"""
FEEDS = {"x": random(2, 64, seed=1), "c": random(1, 4, 16, seed=2)}
OPTIONS: dict[str, Any] = {"type": "uint4:g32:zp", "rules": {"fc": "int8:row"}, "rounding": "mse"}


def model_with(names: list[str], folder: Path, constants: bool) -> Path:
    """The model with a value or a constant and a node of each name, which its last output reads."""
    made = graph(TEXT, WEIGHTS, opset=17)
    for i, name in enumerate(names):
        if constants:
            made.graph.initializer.append(from_array(random(2, 32, seed=3), name))
            made.graph.node.append(make_node("Add", ["y", name], [f"read{i}"]))
        else:
            before = names[i - 1] if i else "y"
            made.graph.node.append(make_node("Relu", [before], [name], name=name))
    last = [f"read{i}" for i in range(len(names))] if constants else names
    made.graph.node.append(make_node("Sum", ["y", *last], ["last"]))
    onnx.save(made, folder / "model.onnx")
    return folder / "model.onnx"


def added(before: Path, after: ir.Model) -> list[str]:
    """The names that Ladder gave."""
    old = {item.name for item in named(ir.load(before))}
    return sorted({item.name or "" for item in named(after)} - old - {""})


@pytest.mark.parametrize("constants", [True, False])
@pytest.mark.parametrize("how", ["qdq", "nbits", "int8"])
def test_written_files(tmp_path: Path, how: str, constants: bool) -> None:
    """Written files are compared with the original before they get their name."""
    options: dict[str, Any] = {"activation": "int8"} if how == "int8" else {"format": how}
    plain = model_with([], tmp_path, constants)
    quantize_onnx(plain, tmp_path / "q.onnx", **OPTIONS, **options)
    names = added(plain, ir.load(tmp_path / "q.onnx"))
    assert len(names) > 5
    report = quantize_onnx(
        model_with(names, tmp_path, constants), tmp_path / "q.onnx", **OPTIONS, **options
    )
    assert report["check"]["error"] is not None
    kept = {item.name for item in named(ir.load(tmp_path / "q.onnx"))}
    assert set(names) <= kept


@pytest.mark.kernels
@pytest.mark.parametrize("constants", [True, False])
def test_artifacts(tmp_path: Path, constants: bool) -> None:
    plain = model_with([], tmp_path, constants)
    ladder.compile(plain, tmp_path / "art", **OPTIONS)
    lowered = load(plain).model
    options = CompileOptions(**OPTIONS)
    steps = (
        *phases.PREPARE,
        *phases.allocate(options),
        *phases.round_and_stack(options),
        *phases.lower(options, ""),
    )
    names = added(plain, run_passes(lowered, steps))
    loaded = ladder.runtime.load(tmp_path / "art")
    assert isinstance(loaded, Session)
    names += [n for n in loaded.artifact.facts.tensors if n not in names and n not in WEIGHTS]
    wanted = loaded.run(FEEDS)["y"].copy()
    model = model_with(names, tmp_path, constants)
    ladder.compile(model, tmp_path / "art", **OPTIONS)
    again = ladder.runtime.load(tmp_path / "art")
    assert isinstance(again, Session)
    found = again.run(FEEDS)
    assert (found["y"] == wanted).all()
    *_, float_last = stock(model, FEEDS)
    assert np.abs(found["last"] - float_last).max() < 0.15 * np.abs(float_last).max()
