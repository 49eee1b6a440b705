"""TVM with the plug-in and Ladder's own compilation give the same bits."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tvm_models

import ladder
import ladder.runtime
from ladder.hardware.targets import LEVELS, runs_here
from ladder.runtime.session import Session

SCRIPT = Path(tvm_models.__file__)
LEVELS_HERE = [
    name for name in ("x86-64-v4", "x86-64-vnni", "x86-64-amx") if runs_here(LEVELS[name])
] or ["x86-64-v3"]
pytestmark = [pytest.mark.models, pytest.mark.kernels]


def test_the_script_imports_tvm_torch_and_numpy_alone() -> None:
    names = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    assert names - {"__future__", "sys"} == {"tvm", "torch", "numpy"}


@pytest.mark.parametrize("level", LEVELS_HERE)
def test_a_torch_mlp_and_a_llama_agree_bit_for_bit(tmp_path: Path, level: str) -> None:
    target, kind = f"ladder/{level}", "int4:g32"
    subprocess.run([sys.executable, SCRIPT, tmp_path, target, kind], check=True, timeout=300)
    for name, (module, x) in tvm_models.models().items():
        source = ladder.load(module, (x,))
        ladder.compile(source, tmp_path / name, type=kind, target=level)
        session = ladder.runtime.load(tmp_path / name)
        assert isinstance(session, Session)
        (wanted,) = session.run({"x" if name == "mlp" else "ids": x.numpy()}).values()
        got = np.load(tmp_path / f"{name}.npy")
        assert got.dtype == wanted.dtype
        assert (got == wanted).all(), f"{name}: off by {np.abs(got - wanted).max()}"
