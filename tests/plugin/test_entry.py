"""What ``import tvm`` loads of Ladder, and that it loads nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
import tvm

import ladder.plugin
from ladder.hardware.targets import ACCELERATORS, LEVELS, TAGS

OURS = {
    "", ".errors", ".hardware", ".hardware.targets", ".plugin", ".plugin.onnx_hook",
    ".plugin.packing", ".support", ".support.moved", ".support.suggest",
}  # fmt: skip


def python(code: str, *without: str) -> str:
    """What a fresh Python prints; ``without`` keeps TVM from calling the entry point."""
    environment = {**os.environ, "TVM_DEVICE_BACKEND_AUTOLOAD": "0" if without else "1"}
    command = [sys.executable, "-c", code, *without]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return run.stdout.strip()


def test_the_tags_are_those_of_the_table_of_targets() -> None:
    assert {n for n in tvm.target.list_tags() if n.startswith("ladder/")} == {
        f"ladder/{name}" for name in [*LEVELS, *ACCELERATORS]
    }
    for name, config in TAGS.items():
        target = tvm.target.Target(f"ladder/{name}")
        assert target.kind.name == config["kind"] and target.tag == f"ladder/{name}"
        assert target.attrs.get("mcpu") == config.get("mcpu")


def test_importing_tvm_is_enough_and_loads_nothing_heavy() -> None:
    code = """
import sys, tvm
assert ("ladder" in tvm.relax.pipeline.PIPELINE_MAP) == (sys.argv[1:] != ["without"])
print(*(m for m in sys.modules if "." not in m or m.startswith("ladder")))
"""
    with_us, without = (set(python(code).split()), set(python(code, "without").split()))
    ours = {name for name in with_us if name.split(".")[0] == "ladder"}
    assert ours == {f"ladder{rest}" for rest in OURS}
    light = {"__editable___ladder_0_1_0_finder", "_ctypes", "ctypes", "platform", "logging"}
    assert with_us - without - ours <= light


def test_without_the_entry_point_tvm_is_as_it_was() -> None:
    code = """
import sys, tvm
from tvm.relax.frontend import onnx
tags = [n for n in tvm.target.list_tags() if n.startswith("ladder/")]
print(tags, *tvm.relax.pipeline.PIPELINE_MAP)
ours = [m for m in sys.modules if m.split(".")[0] == "ladder"]
print(ours, "ours" if hasattr(onnx.from_onnx, "__wrapped__") else "own")
"""
    tags_and_pipelines, modules = python(code, "without").splitlines()
    assert tags_and_pipelines == "[] zero default default_build static_shape_tuning"
    assert modules == "[] own"


def test_another_version_switches_it_off_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tvm, "__version__", "0.28.0")
    monkeypatch.setattr(ladder.plugin, "_add_all", lambda _: pytest.fail("was not off"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ladder.plugin.load()
    (only,) = caught
    assert "0.27" in str(only.message) and "0.28.0" in str(only.message)


def test_it_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such registry")

    monkeypatch.setattr(tvm.target, "register_tag", broken)
    with pytest.warns(UserWarning, match="no such registry"):
        ladder.plugin.load()
