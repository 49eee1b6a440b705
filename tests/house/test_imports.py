"""What importing Ladder loads. Who may import whom is a contract in pyproject.toml (make lint)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "onnx", "onnx_ir", "onnxscript", "transformers", "onnxruntime")


def loaded_by(code: str, names: tuple[str, ...] = HEAVY) -> list[str]:
    """The modules among ``names`` that a fresh Python has loaded after ``code``."""
    show = f"import sys; print(*[m for m in {names} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_the_runtime_imports_nothing_heavy() -> None:
    assert loaded_by("import ladder.runtime") == []
    assert loaded_by("import ladder.runtime.session, ladder.runtime.language_model") == []


def test_the_package_and_the_command_line_import_nothing_heavy() -> None:
    assert loaded_by("import ladder, ladder.cli.app", (*HEAVY, "numpy", "scipy")) == []


@pytest.mark.models
@pytest.mark.xdist_group("cli")
def test_running_an_artifact_loads_no_compiler(tiny_artifact: Path) -> None:
    code = f"""
import ladder.runtime
list(ladder.runtime.load({str(tiny_artifact)!r}).stream([1, 2, 3], 4))
maps = open("/proc/self/maps").read()
assert "libtvm_runtime" in maps, "where is TVM's runtime?"
assert "libtvm_compiler" not in maps and "libLLVM" not in maps, "a compiler is loaded"
"""
    assert loaded_by(code) == []
