"""A process loads TVM once: with its compiler, or without it if an artifact ran first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sources import ROOT

pytestmark = [pytest.mark.models, pytest.mark.kernels]
MODEL = "import ladder, sys\nfolder, artifact, out = sys.argv[1:]\n"
COMPILE = "ladder.compile(folder, out, type='int5:g32', context=64, chunk=8)\n"


def ran(code: str, *words: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", MODEL + code, *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT)


def test_compiling_after_an_artifact_ran_is_refused(
    tiny_chat_folder: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    code = "import ladder.runtime\nladder.runtime.load(artifact)\n" + COMPILE
    done = ran(code, tiny_chat_folder, tiny_artifact, tmp_path / "out")
    assert done.returncode and "LadderError: this process loaded an artifact before" in done.stderr


def test_timing_a_cached_plan_leaves_the_compiler(
    tiny_chat_folder: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    timed = (
        "from ladder.ir.dtype import DType\n"
        "from ladder.pipeline.sources import load_source\n"
        "from ladder.planning import times\n"
        "from ladder.options.requests import CompileOptions\n"
        "times.BENCH_CONTEXT = 16  # its vocabulary has 128 tokens\n"
        "options = CompileOptions(type=DType.parse('int4:g32'), context=64, chunk=8)\n"
        "print(times._decode_seconds(load_source(folder), options))\n"
    )
    words = (tiny_chat_folder, tiny_artifact, tmp_path / "out")
    for code in (timed, timed + COMPILE):  # the second finds the first one's artifact
        done = ran(code, *words)
        assert done.returncode == 0, done.stderr
