"""Installing the package adds the plug-in to TVM, uninstalling it leaves TVM as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.models

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("ladder", "passes", "codegen", "runtime", "pyproject.toml", "README.md", "LICENSE")
# What TVM and its ONNX frontend need.
NEEDED = (
    "apache-tvm",
    "apache-tvm-ffi",
    "numpy",
    "ml_dtypes",
    "typing_extensions",
    "onnx",
    "protobuf",
)
WHAT_TVM_IS = """
import hashlib, importlib.metadata, json, pathlib, sys
import tvm, tvm_ffi
from tvm import relax
from tvm.relax.frontend import onnx
builder = relax.BlockBuilder()
x, y = (relax.Var(n, relax.TensorType((4, 4), "float32")) for n in "xy")
with builder.function("main", [x, y]):
    with builder.dataflow():
        out = builder.emit_output(relax.op.matmul(x, y))
    builder.emit_func_output(out)
built = tvm.compile(builder.get(), target="llvm")
folder = pathlib.Path(tvm.__file__).parent
files = sorted(p for p in folder.rglob("*.py"))
print(json.dumps({
    "tags": sorted(map(str, tvm.target.list_tags())),
    "pipelines": sorted(tvm.relax.pipeline.PIPELINE_MAP),
    "functions": sorted(n for n in tvm_ffi.registry.list_global_func_names() if "ladder" in n),
    "onnx": hasattr(onnx.from_onnx, "__wrapped__"),
    "modules": sorted(m for m in sys.modules if m.split(".")[0] == "ladder"),
    "entry points": [e.value for e in importlib.metadata.entry_points(group="tvm.backends")],
    "sources": hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest(),
    "code": hashlib.sha256(str(built.mod.imports[0].inspect_source("s")).encode()).hexdigest(),
}))
"""


def run(*words: object, **environment: str) -> str:
    command = [str(word) for word in words]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python of its own that has TVM, and nothing of ours."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    for name in NEEDED:
        found = distribution(name)
        tops = {file.parts[0] for file in found.files or () if ".." not in file.parts}
        for top in tops - {"__pycache__"}:
            (site / top).symlink_to(Path(str(found.locate_file(top))))
    return tmp_path / "venv" / "bin" / "python"


def wheel(folder: Path) -> Path:
    """The package as pip would build it, from a copy, because building leaves files."""
    copy = folder / "sources"
    copy.mkdir()
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, copy / name)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder / "dist", copy)
    (built,) = (folder / "dist").glob("ladder-*.whl")
    return built


def what_tvm_is(python: Path, folder: Path) -> Any:
    # -P: the current folder also has the package, and files of an editable install.
    return json.loads(run(python, "-P", "-c", WHAT_TVM_IS, PYTHONPATH="", HOME=str(folder)))


def test_uninstalling_leaves_tvm_as_it_was(python: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", python]
    before = what_tvm_is(python, tmp_path)
    run(*pip, "install", "-q", "--no-deps", "--no-index", wheel(tmp_path))
    with_us = what_tvm_is(python, tmp_path)
    run(*pip, "uninstall", "-q", "-y", "ladder")
    after = what_tvm_is(python, tmp_path)
    assert with_us["entry points"] == ["ladder.plugin:load"]
    assert "ladder" in with_us["pipelines"] and with_us["onnx"] and with_us["functions"]
    assert set(with_us["tags"]) - set(before["tags"]) >= {"ladder/x86-64-v4"}
    # Other modules compile to the same code with the plug-in: nothing of TVM itself is changed.
    assert (with_us["sources"], with_us["code"]) == (before["sources"], before["code"])
    assert after == before
    assert not before["modules"] and not before["functions"]
