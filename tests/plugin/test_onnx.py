"""Files that Ladder writes, read by TVM's own ONNX frontend: low-bit operators, the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import relax_modules as modules
import small_graphs
from tvm.relax.frontend.onnx import from_onnx

import ladder
import ladder.runtime
from ladder.plugin import operator_names
from ladder.runtime.session import Session

WEIGHTS = {"w": modules.array(100, 48), "b": modules.array(48), "e": modules.array(64, 100)}
GRAPH = """
g (int64[5] ids) => (float[5, 48] y) {
    x = Gather <axis=0> (e, ids)
    p = MatMul (x, w)
    y = Add (p, b)
}"""
IDS = np.array([3, 1, 63, 0, 7])
FORMS = [
    ("int4:g32", "qdq"),
    ("uint4:g32:zp", "qdq"),
    ("int3:g64:fp16", "qdq"),
    ("nf4:g64", "qdq"),
    ("ternary:g64", "qdq"),
    ("uint2:g64:zpf", "qdq"),
    ("fp8_e4m3:row", "qdq"),
    ("int4:g32", "nbits"),
    ("uint4:g32:zp", "nbits"),
    ("int2:g64", "nbits"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    onnx.save(small_graphs.graph(GRAPH, WEIGHTS), tmp_path / "float.onnx")
    return tmp_path / "float.onnx"


@pytest.mark.kernels
@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_a_written_file_keeps_its_types_and_bits(file: Path, kind: str, form: str) -> None:
    ladder.export_onnx(file, file.with_name("low.onnx"), type=kind, format=form)
    mod = from_onnx(onnx.load(file.with_name("low.onnx")))
    wanted = {operator_names.MATMUL, operator_names.GATHER, "relax.add"}
    assert set(modules.calls(mod)) == wanted
    ladder.compile(file, file.with_name("out"), type=kind, target="x86-64")
    session = ladder.runtime.load(file.with_name("out"))
    assert isinstance(session, Session)
    (expected,) = session.run({"ids": IDS}).values()
    assert (modules.run(mod, IDS) == expected).all()


@pytest.mark.kernels
def test_the_operators_of_the_dialect_are_read(file: Path) -> None:
    model = small_graphs.quantized(onnx.load(file), "int4:g32", "mse")
    mod = from_onnx(ir.to_proto(model))
    assert set(modules.calls(mod)) == {operator_names.MATMUL, operator_names.GATHER, "relax.add"}
    exact = modules.run(mod.with_attr("ladder.activation", "fp32"), IDS)
    small_graphs.assert_same([exact], small_graphs.meaning(model, {"ids": IDS}))


def test_a_float_file_is_read_as_before(file: Path) -> None:
    mod = from_onnx(onnx.load(file))
    assert "relax.matmul" in modules.calls(mod) and operator_names.MATMUL not in modules.calls(mod)
