"""Sessions: the buffers of inputs stay in place, whatever their type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import ladder
import ladder.runtime
from ladder.runtime.session import Session

pytestmark = pytest.mark.kernels

MASKED = """<ir_version: 10, opset_import: ["": 21]>
masked (float[2, 64] x, bool[2, 24] keep) => (float[2, 24] y) {
    p = MatMul (x, w)
    none = Constant <value_float=0.0> ()
    y = Where (keep, p, none)
}"""


def test_every_call_reads_its_own_inputs(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 24)).astype(np.float32)
    model = onnx.parser.parse_model(MASKED)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, tmp_path / "masked.onnx")
    ladder.compile(tmp_path / "masked.onnx", tmp_path / "art", type="int8:row")
    session = ladder.runtime.load(tmp_path / "art")
    assert isinstance(session, Session)
    for seed in (1, 2):
        random = np.random.default_rng(seed)
        x = random.standard_normal((2, 64)).astype(np.float32)
        keep = random.random((2, 24)) > 0.5
        out = session.run({"x": x, "keep": keep})["y"]
        expected = np.where(keep, x @ weight, 0)
        assert (out[~keep] == 0).all(), f"seed {seed}"
        assert np.abs(out - expected).max() < 0.02 * np.abs(expected).max(), f"seed {seed}"
