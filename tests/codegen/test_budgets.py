"""Inner loops stay within their budgets: instructions are counted in LLVM's assembly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby
from typing import Any

import pytest

from ladder.codegen.inner_loop import assembly, innermost, loops
from ladder.codegen.kernels import hvx
from ladder.codegen.kernels.library import kernel, name_of
from ladder.codegen.layout import Packing
from ladder.errors import LadderError
from ladder.hardware.instruction_budgets import (
    BUDGETS,
    FAMILIES,
    TYPES,
    Anchor,
    anchor_of,
    budget_of,
    check,
)
from ladder.hardware.targets import ACCELERATORS, LEVELS
from ladder.ir.dtype import DType

pytestmark = pytest.mark.kernels

Mix = Mapping[str, int]
OPS = {"table8": ("lut_gemm", "table8"), "int8": ("lut_gemm", "int8")}  # others: dot_gemm
# Portable kernels are plain loops for LLVM. AMX has the kernels of avx512 and those for matrix
# tiles, whose steps are generated at compile time, without a loop.
WITHOUT = {"portable", "amx"}


@cache
def machine_of(family: str) -> tuple[str, Mapping[str, object]]:
    """(architecture, TVM's target) of the first target with these kernels; Linux's assembly."""
    levels = [x for x in LEVELS.values() if x.system != "darwin"]
    machines = [(x.arch, x.llvm, x.kernels) for x in levels]
    machines += [(x.arch, x.config, x.kernels) for x in ACCELERATORS.values()]
    return next((arch, config) for arch, config, kernels in machines if kernels == family)


def cases(family: str) -> Iterator[tuple[str, str]]:
    """(loop, type) of every budget."""
    for loop in BUDGETS[family]:
        for type in TYPES:
            if budget_of(family, loop, type) is not None:
                yield loop, type


def made(family: str, loop: str, type: str) -> Any:
    op, mode = OPS.get(loop, ("dot_gemm", "int8"))
    packing = Packing.of(DType.parse(type))
    if family == "hvx":
        return getattr(hvx, op)(packing, mode)
    return kernel(op, packing, mode, family)


@cache
def texts_of(family: str) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """Kernels' names by loop and type, and their assembly: all compiled together."""
    kernels = {case: made(family, *case) for case in cases(family)}
    by_name = {name_of(func): func for func in kernels.values()}
    names = {case: name_of(func) for case, func in kernels.items()}
    return names, assembly([*by_name.values()], machine_of(family)[1])


def busy(mix: Mix) -> int:
    return mix.get("vector", 0) + mix.get("lookup", 0)


def chosen(loop: str, mixes: list[dict[str, int]]) -> Mix:
    """The loop of a kernel that the budget is for."""
    dots = [mix for mix in mixes if mix.get("dot")]
    stores = [m for m in mixes if m.get("store") and not m.get("dot") and not m.get("float")]
    if loop in OPS:
        return max(mixes, key=lambda mix: mix.get("lookup", 0), default={})
    if loop == "unpack":
        return max(stores, key=busy, default={})
    if loop == "one":
        return max(dots, key=lambda mix: busy(mix) / mix["dot"], default={})
    return min(dots, key=lambda mix: (busy(mix) + mix.get("load", 0)) / mix["dot"], default={})


def anchor(family: str, loop: str, type: str) -> Anchor:
    packing = Packing.of(DType.parse(type))
    return anchor_of(family, loop, type, packing.bits, max(packing.digits, 1))


def checked(family: str, loop: str, type: str, text: str) -> dict[str, float]:
    mix = chosen(loop, loops(text, machine_of(family)[0]))
    return check(family, loop, type, anchor(family, loop, type), mix)


@pytest.mark.parametrize("family", BUDGETS)
def test_inner_loops_stay_within_their_budgets(family: str) -> None:
    """No budget allows much more than its most expensive type takes."""
    names, texts = texts_of(family)
    used: dict[tuple[str, str], float] = {}
    for (loop, type), name in names.items():
        spent = checked(family, loop, type, texts[name])
        for kind, most in (budget_of(family, loop, type) or {}).items():
            share = spent.get(kind, 0) / most if most else 1.0
            used[loop, kind] = max(used.get((loop, kind), 0), share)
    loose = {case: share for case, share in used.items() if share < 0.6}
    assert not loose, f"{family}: the share of these budgets that is used: {loose}"


def test_every_family_of_kernels_has_budgets_of_every_type() -> None:
    families = {level.kernels for level in LEVELS.values()} | {"hvx"}
    assert families - WITHOUT == {*BUDGETS} == {*FAMILIES}
    for family in BUDGETS:
        of_types = {type for _, type in cases(family)}
        books = {type for type in TYPES if DType.parse(type).element.book}
        assert of_types == {*TYPES} - (books if family == "hvx" else set())


def test_codes_are_prefetched_while_others_are_computed() -> None:
    """Many prefetches at once wait for fill buffers: at most half a chunk's come in a row."""
    func = made("avx512", "one", "int8:g128")
    text = assembly([func], machine_of("avx512")[1])[name_of(func)]
    bodies = list(innermost(text.splitlines(), "x86_64"))
    body = max(bodies, key=lambda lines: sum(line.startswith("prefetch") for line in lines))
    kinds = groupby(body, lambda line: line.startswith("prefetch"))
    runs = [len(list(lines)) for is_prefetch, lines in kinds if is_prefetch]
    lines_of_chunk = 2 * 8  # each into two caches
    assert sum(runs) == 2 * lines_of_chunk
    assert max(runs) <= lines_of_chunk


@pytest.mark.parametrize(
    ("before", "instead", "message"),
    [
        ("vpdpbusd", "vmovups 64(%rsp), %zmm3\n\tvpdpbusd", "spill"),  # sums through the stack
        ("vpdpbusd", "vpandd %zmm0, %zmm1, %zmm1\n\tvpdpbusd", "3 vector"),  # one more step
        ("vpermb", "vpermb %zmm0, %zmm0, %zmm0\n\tvpermb", "at least 0.5 load"),  # everything twice
        ("vpermb", "vpandd", "no inner loop with 1 lookup"),  # a scalar loop in place of look-ups
    ],
)
def test_a_worse_loop_is_refused(before: str, instead: str, message: str) -> None:
    text = avx512_text()
    with pytest.raises(LadderError) as refused:
        checked("avx512", "table8", "int2:g128", text.replace(before, instead))
    assert str(refused.value).startswith("avx512 table8 int2:g128: ")
    assert message in str(refused.value)


@cache
def avx512_text() -> str:
    func = made("avx512", "table8", "int2:g128")
    return assembly([func], machine_of("avx512")[1])[name_of(func)]
