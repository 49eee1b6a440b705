"""The inner loops are what they should be: instructions counted in LLVM's assembly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from ladder.budgets import BUDGETS, Budget, check
from ladder.codegen.inner_loop import assembly, instruction_mix
from ladder.codegen.kernels import hvx
from ladder.codegen.kernels.library import kernel
from ladder.codegen.layout import Packing
from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.targets import ACCELERATORS, LEVELS

pytestmark = pytest.mark.kernels

CASES = [(family, budget) for family, budgets in BUDGETS.items() for budget in budgets]
AVX512 = BUDGETS["avx512"][0]


def machine_of(family: str) -> tuple[str, Mapping[str, object]]:
    """(architecture, TVM's target) of the first target with these kernels; Linux's assembly."""
    levels = [x for x in LEVELS.values() if x.system != "darwin"]
    machines = [(x.arch, x.llvm, x.kernels) for x in levels]
    machines += [(x.arch, x.config, x.kernels) for x in ACCELERATORS.values()]
    return next((arch, config) for arch, config, kernels in machines if kernels == family)


def made(family: str, budget: Budget) -> Any:
    packing = Packing.of(DType.parse(budget.type))
    if family == "hvx":
        return getattr(hvx, budget.op)(packing, budget.mode)
    return kernel(budget.op, packing, budget.mode, family)


@cache
def text_of(family: str, op: str, type: str, mode: str) -> str:
    budget = next(b for b in BUDGETS[family] if (b.op, b.type, b.mode) == (op, type, mode))
    return assembly(made(family, budget), machine_of(family)[1])


def mix_of(family: str, budget: Budget) -> dict[str, int]:
    text = text_of(family, budget.op, budget.type, budget.mode)
    return instruction_mix(text, machine_of(family)[0], budget.loop)


@pytest.mark.parametrize(("family", "budget"), CASES, ids=lambda x: getattr(x, "name", x))
def test_inner_loops_stay_within_their_budgets(family: str, budget: Budget) -> None:
    spent = check(budget, mix_of(family, budget), family)
    assert spent[budget.anchor] == budget.rate


def test_every_family_of_kernels_has_a_budget() -> None:
    families = {level.kernels for level in LEVELS.values()} | {"hvx"}
    # Portable kernels are what LLVM makes of plain loops; AMX has those of avx512 for few tokens.
    assert families - {name for name, budgets in BUDGETS.items() if budgets} <= WITHOUT


WITHOUT = {"portable", "amx"}


def test_a_budget_that_is_too_small_is_refused_with_the_kernel_and_its_counts() -> None:
    mean = replace(AVX512, most={**AVX512.most, "lookup": 0.5})
    with pytest.raises(LadderError) as refused:
        check(mean, mix_of("avx512", AVX512), "avx512")
    text = str(refused.value)
    assert text.startswith("avx512 lut_gemm int2:g128 table8: ") and "1 lookup" in text
    assert "its budget is" in text and "0.5 lookup" in text


@pytest.mark.parametrize(
    ("before", "instead", "message"),
    [
        ("vpdpbusd", "vmovups 64(%rsp), %zmm3\n\tvpdpbusd", "spill"),  # sums through the stack
        ("vpdpbusd", "vpandd %zmm0, %zmm1, %zmm1\n\tvpdpbusd", "3 vector"),  # one step more
        ("vpermb", "vpermb %zmm0, %zmm0, %zmm0\n\tvpermb", "load"),  # look-ups done twice
        ("vpermb", "vpandd", "not a multiple"),  # scalar loops in place of look-ups
    ],
)
def test_a_worse_loop_is_refused(before: str, instead: str, message: str) -> None:
    text = text_of("avx512", AVX512.op, AVX512.type, AVX512.mode).replace(before, instead)
    with pytest.raises(LadderError, match=message):
        check(AVX512, instruction_mix(text, "x86_64", AVX512.loop), "avx512")
