"""The tags of other processors than this machine's: what is compiled or reported for them."""

from __future__ import annotations

import logging

import pytest
import relax_modules as modules
import tvm

from ladder.errors import LadderError
from ladder.hardware.targets import ACCELERATORS, LEVELS

pytestmark = pytest.mark.kernels

ARM = [level.name for level in LEVELS.values() if level.arch == "arm64"]
HEXAGON = [a.name for a in ACCELERATORS.values() if a.arch == "hexagon"]
PRODUCT = modules.product(modules.array(modules.N, modules.K)).with_attr("ladder.type", "int4:g32")


@pytest.mark.parametrize("name", ARM)
def test_arm_tags_compile_with_the_kernels_of_their_level(name: str) -> None:
    executable = tvm.compile(PRODUCT, target=f"ladder/{name}", relax_pipeline="ladder")
    library = executable.mod.imports[0]
    text = str(library.inspect_source("s"))
    # Names of kernels contain their family.
    assert f"_gemm_{LEVELS[name].kernels}_" in text and "%zmm" not in text


@pytest.mark.parametrize("name", HEXAGON)
def test_the_npu_says_that_modules_do_not_run_there(name: str) -> None:
    with pytest.raises(LadderError) as refused:
        tvm.compile(PRODUCT, target=f"ladder/{name}", relax_pipeline="ladder")
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"ladder/{name}: ") and "ladder kernels build" in line


def test_the_gpu_says_that_products_stay_float(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ladder.plugin"):
        made = tvm.compile(PRODUCT, target="ladder/snapdragon-x-elite-gpu", relax_pipeline="ladder")
    assert made is not None
    (line,) = [record.getMessage() for record in caplog.records]
    assert "no low-bit products" in line and "ladder kernels build" in line
