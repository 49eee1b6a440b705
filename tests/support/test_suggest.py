"""A name that does not exist is answered with the one that was probably meant."""

from __future__ import annotations

import pytest

from ladder.errors import LadderError
from ladder.hardware.targets import levels_of
from ladder.ir.dtype import DType
from ladder.options.requests import CompileOptions
from ladder.options.schema import options_of
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.rounding.methods import find_method
from ladder.support.suggest import did_you_mean

TYPES = {
    "int4g128": "int4:g128",
    "INT4_G128": "int4:g128",
    "itn4:g128": "int4:g128",
    "Q4_K_M": "uint4:g32:fp16:zpf",
    "Q4_0": "q4_0",
    "awq": "uint4:g128:fp16:zp",
    "fp8": "fp8_e4m3:row",
}
TARGETS = {"avx2": "x86-64-v3", "AVX-512": "x86-64-v4", "aarch64": "arm64-all", "natve": "native"}


@pytest.mark.parametrize(("asked", "meant"), TYPES.items())
def test_types(asked: str, meant: str) -> None:
    with pytest.raises(LadderError, match=f"unknown type '{asked}': .*; did you mean '{meant}'"):
        DType.parse(asked)
    DType.parse(meant)


@pytest.mark.parametrize(("asked", "meant"), TARGETS.items())
def test_targets(asked: str, meant: str) -> None:
    with pytest.raises(LadderError, match=f"unknown target '{asked}'; .*; did you mean '{meant}'"):
        levels_of(asked)
    assert levels_of(meant)


def test_other_names() -> None:
    with pytest.raises(LadderError, match=r"unknown rounding 'gtpq'; .*; did you mean 'gptq'"):
        find_method("gtpq")
    with pytest.raises(LadderError, match=r"unknown pass 'round-wieghts'.*mean 'round-weights'"):
        parse_pipeline("round-wieghts")
    with pytest.raises(LadderError, match=r"unknown option 'contxt'.*did you mean 'context'"):
        options_of(CompileOptions, {"contxt": 8})


def test_nothing_is_guessed() -> None:
    assert did_you_mean("zzz", ["gptq", "mse"]) == ""
    with pytest.raises(LadderError, match=r"fp32, fp16$"):
        DType.parse("zzz")
