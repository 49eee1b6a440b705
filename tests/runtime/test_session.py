"""Sessions: the buffers of inputs stay in place, whatever their type."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import onnx
import pytest

import ladder
import ladder.runtime
from ladder.runtime.session import Session, aligned_zeros

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


def test_memory_is_taken_as_rows_are_written() -> None:
    """A long context costs nothing before there is a text that long."""
    before = resident()
    rows = aligned_zeros((1, 64, 1 << 16, 16), "float32")
    assert resident() - before < rows.nbytes / 8
    rows[:, :, : 1 << 15] = 1
    assert rows.nbytes / 4 < resident() - before < rows.nbytes * 3 / 4


def resident() -> int:
    """Bytes of memory that this process has, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (7, 5), (300, 1000)])
def test_buffers_are_aligned(shape: tuple[int, ...]) -> None:
    for dtype in ("float32", "int64", "bool"):
        array = aligned_zeros(shape, dtype)
        assert array.shape == shape and array.ctypes.data % 64 == 0 and not array.any()
