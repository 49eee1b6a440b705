"""SmolLM2-135M, compiled for a Raspberry Pi 5 and run under qemu."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from emulation import arm64, generate
from fetch import package_file
from sources import ROOT

from ladder.demo import MODEL
from ladder.ir.dtype import DType
from ladder.options.requests import CompileOptions
from ladder.pipeline.compile import compile_model

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("smollm2")]
PROMPT = "[504, 3095, 282, 260, 7823, 4960, 6485]"  # The history of the steam engine begins
COUNT = 8


def here(folder: Path) -> list[int]:
    words = [sys.executable, generate.__file__, str(folder), PROMPT, str(COUNT)]
    env = {**os.environ, "TVM_USE_RUNTIME_LIB": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=env)
    return list(json.loads(done.stdout))


def test_the_same_tokens_as_on_x86(smollm2_artifact: Path, tmp_path: Path) -> None:
    """The artifact runs with Ladder's runtime, numpy and TVM's runtime, without the compiler."""
    options = CompileOptions(
        type=DType.parse("int4:g128"), context=64, chunk=8, target="raspberry-pi-5", kv_type="fp32"
    )
    compile_model(package_file(*MODEL), tmp_path / "pi", options)
    words = [generate.__file__, str(tmp_path / "pi"), PROMPT, str(COUNT)]
    emulated = list(json.loads(arm64.run_python("armv8.2", words, ROOT)))
    assert emulated == here(smollm2_artifact)
