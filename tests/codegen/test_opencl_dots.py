"""OpenCL code with dot products of bytes, which no device here has: clang compiles it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pocl_binary_distribution  # type: ignore[import-untyped]
import pytest

from ladder.codegen.layout import Packing
from ladder.codegen.opencl_library import emit
from ladder.hardware.targets import ACCELERATORS
from ladder.ir.dtype import DType

pytestmark = pytest.mark.kernels

HEADERS = Path(pocl_binary_distribution.__path__[0]) / ".libs" / "share" / "pocl" / "include"
FEATURE = "__opencl_c_integer_dot_product_input_4x8bit_packed"
# Options, and the function that must be called. Qualcomm's is only declared in its drivers.
WAYS = {
    "khr": (
        ["-cl-std=CL3.0", f"-cl-ext=+cl_khr_integer_dot_product,+{FEATURE}"],
        "",
        "dot_4x8packed_us_int",
    ),
    "qcom": (
        ["-cl-std=CL3.0", "-DLADDER_QCOM_DOT8"],
        f"#undef {FEATURE}\nint qcom_dot8_acc(uint a, uint b, int sum);\n",
        "qcom_dot8_acc",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("type", ["int4:g64", "ternary:g64", "nf4:g64"])
def test_dot_products_compile_and_are_called(type: str, way: str, tmp_path: Path) -> None:
    options, declared, called = WAYS[way]
    source, _ = emit(Packing.of(DType.parse(type)), ACCELERATORS["snapdragon-x-elite-gpu"].config)
    file = tmp_path / "kernels.cl"
    file.write_text(declared + source)
    clang = [sys.executable, "-m", "ziglang", "clang", "-cc1", "-triple", "spir64", "-x", "cl"]
    builtins = ["-isystem", str(HEADERS), "-finclude-default-header", "-fdeclare-opencl-builtins"]
    output = ["-emit-llvm", "-O1", "-o", "-", str(file)]
    done = subprocess.run(
        [*clang, *builtins, *options, *output], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:1000]
    assert re.search(rf"call .*@\w*{called}", done.stdout)
