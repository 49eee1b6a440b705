"""A frontend is a file and a row of one table: nothing else knows its suffix."""

from __future__ import annotations

import ast
import sys
import types
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from small_graphs import graph, random
from sources import ROOT, own_modules

import ladder
from ladder.frontend import load
from ladder.frontend.load import FRONTENDS, Frontend
from ladder.frontend.types import Source


def read_list(path: Path) -> Source:
    """A frontend of this test: a text file that names the size of a square layer."""
    size = int(path.read_text())
    text = f"g (float[3, {size}] x) => (float[3, {size}] y) {{ y = MatMul(x, w) }}"
    model: ir.Model = ir.from_proto(graph(text, {"w": random(size, size)}))
    return Source(model, str(path), f"list-{size}")


def test_a_new_frontend_is_read_by_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("list_frontend")
    vars(module)["read_list"] = read_list
    monkeypatch.setitem(sys.modules, module.__name__, module)
    row = Frontend("list_frontend:read_list", suffix=".list", traced=False)
    monkeypatch.setattr(load, "FRONTENDS", (*FRONTENDS, row))
    (tmp_path / "model.list").write_text("32")
    source = ladder.load(tmp_path / "model.list")
    assert source.digest == "list-32" and not source.is_language_model


@pytest.mark.parametrize("suffix", [".onnx", ".gguf"])
def test_no_other_module_chooses_by_suffix(suffix: str) -> None:
    """Messages may speak of it, in longer texts."""
    named = {
        str(path.relative_to(ROOT))
        for path in own_modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value == suffix
    }
    assert named == {"ladder/frontend/load.py"}


def test_a_file_of_each_frontend_is_found(tmp_path: Path) -> None:
    onnx.save(graph("g (float[2] x) => (float[2] y) { y = Relu(x) }", {}), tmp_path / "m.onnx")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    for frontend, name in zip(FRONTENDS, ("m.onnx", "m.gguf", "folder"), strict=True):
        assert load.find_frontend(tmp_path / name) == (frontend, tmp_path / name)
