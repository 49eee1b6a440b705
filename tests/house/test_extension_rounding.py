"""A rounding method is one function and one row of the registry; nothing else knows its name."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from small_graphs import graph, random, stock
from sources import own_modules

import ladder
from ladder.ir.dtype import DType
from ladder.passes.rounding.matrix import Rounded, rtn
from ladder.passes.rounding.methods import METHODS, Method, Needs, find_method, methods_help
from ladder.support import cache, import_closure

CHAIN = """g (float[8, 64] x) => (float[8, 48] y) {
    a = MatMul (x, up)  r = Relu (a)  y = MatMul (r, down)
}"""
WINDOWS = 4


def drop_unread(weight: np.ndarray, dtype: DType, hessian: Any) -> Rounded:
    """A method for this test: weights that the Hessian says are hardly used become zero."""
    read = np.diag(hessian)
    assert hessian.shape == (weight.shape[1],) * 2 and (read > 0).all()
    return rtn(np.where(read > np.median(read) / 100, weight, 0), dtype)


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Method:
    """The one row that a new method takes."""
    row = Method("drop-unread", "columns that are read", Needs.HESSIANS, drop_unread)
    monkeypatch.setitem(METHODS, row.name, row)
    return row


def test_a_new_method_quantizes_a_model(method: Method, tmp_path: Path) -> None:
    weights = {"up": random(64, 96), "down": random(96, 48, seed=1)}
    x = random(WINDOWS, 8, 64, seed=2)
    x[..., :32] *= 1e-3
    onnx.save(graph(CHAIN, weights), tmp_path / "model.onnx")
    np.savez(tmp_path / "samples.npz", x=x)
    report = ladder.export_onnx(
        tmp_path / "model.onnx",
        tmp_path / "low.onnx",
        type="int4:g32",
        rounding=method.name,
        calib=tmp_path / "samples.npz",
    )
    assert {site["rounding"] for site in report["sites"]} == {method.name}
    for site in report["sites"]:
        assert set(site["output_errors"]) == {"rtn", "mse", method.name}
    assert any(f"on {WINDOWS} tokens" in note for note in report["notes"])
    up, down = (site["output_errors"] for site in report["sites"])
    assert up[method.name] == pytest.approx(up["rtn"], rel=0.01)  # what is left out is hardly read
    assert up[method.name] != up["rtn"] and down[method.name] == down["rtn"]
    (exact,), (low,) = (stock(tmp_path / f, {"x": x[0]}) for f in ("model.onnx", "low.onnx"))
    assert np.linalg.norm(low - exact) < 0.3 * np.linalg.norm(exact)


def test_a_new_method_is_in_help_and_messages(method: Method) -> None:
    assert "drop-unread: columns that are read" in methods_help()
    with pytest.raises(ladder.LadderError, match=r"one of: .*drop-unread"):
        find_method("none")


def test_what_rows_say_fits_together() -> None:
    for name, row in METHODS.items():
        assert row.name == name
        assert row.needs.model == (row.whole is not None)
        assert (row.round is None) == bool(row.among)
        assert all(METHODS[other].round is not None for other in row.among)
        assert row.start is None or METHODS[row.start.method].needs.model


def test_artifacts_follow_from_every_method_that_rounds_whole_models() -> None:
    """Their functions are found by name, so no import says so."""
    followed = import_closure.import_closure(*cache.MAKERS["artifacts"])
    for row in METHODS.values():
        for text in (row.whole.make, row.whole.check) if row.whole else ():
            assert not text or text.partition(":")[0] in followed


# Where a method's name is meant to be: the registry, and the method's own file. "mse" is also the
# name of a loss, and the default; a folder of the cache is named as what is in it; "gptq" is also
# a format of checkpoints.
REGISTRY = "ladder.passes.rounding.methods"
OWN = {
    ("ladder.calibration.gptaq", "gptaq"),
    ("ladder.calibration.learned.result", "learned"),
    ("ladder.support.cache", "learned"),
    *(
        (f"ladder.frontend.{module}", "gptq")
        for module in ("checkpoints", "packed.formats", "packed.gptq")
    ),
}


def test_no_other_module_names_a_method() -> None:
    names = set(METHODS) - {"mse"}
    found = {
        (module, node.value)
        for module, path in own_modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
    }
    assert {name for module, name in found if module == REGISTRY} == names
    assert {pair for pair in found if pair[0] != REGISTRY} == OWN
