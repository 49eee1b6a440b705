"""An installed Ladder from end to end: a small ONNX model is compiled and run.

``make package`` runs it in an environment that has the built wheel and nothing else. The model, the
artifact and its input stay in a folder, for the environment of a device.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

import ladder
import ladder.runtime
from ladder.runtime.session import Session

GRAPH = """<ir_version: 10, opset_import: ["": 21]>
g (float[1, 64] x) => (float[1, 32] y) { y = MatMul(x, w) }"""
TOLERANCE = 0.02  # of the largest output, for 8 bits


def main(folder: Path) -> None:
    assert Path(ladder.__file__).is_relative_to(sys.prefix), f"not installed: {ladder.__file__}"
    random = np.random.default_rng(0)
    x, w = (random.standard_normal(size).astype(np.float32) for size in ((1, 64), (64, 32)))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["LADDER_CACHE"] = cache
        model = onnx.parser.parse_model(GRAPH)
        model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
        onnx.save(model, folder / "model.onnx")
        np.savez(folder / "input.npz", x=x)
        ladder.compile(folder / "model.onnx", folder / "artifact", type="int8:row")
        session = ladder.runtime.load(folder / "artifact")
        assert isinstance(session, Session)
        y = session.run({"x": x})["y"]
    error = np.abs(y - x @ w).max() / np.abs(x @ w).max()
    assert error < TOLERANCE, error
    print(f"ladder {ladder.__version__} works: error {error:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
