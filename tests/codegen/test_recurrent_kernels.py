"""Kernels of recurrent operators equal the reference, on every processor."""

from __future__ import annotations

import re
from functools import cache
from itertools import cycle

import numpy as np
import pytest
from compiled import run_compiled
from emulation.recurrent import RUNNERS, Call, Results
from kernel_cases import HERE
from recurrent_cases import STATE, Array, Maker, small, wide

from ladder.codegen.inner_loop import assembly, innermost
from ladder.codegen.kernels.library import name_of
from ladder.codegen.kernels.recurrence.form import FORMS
from ladder.codegen.recurrence import CONVERTERS, changed_in_place
from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS
from ladder.ir.recurrence import OPERATORS

pytestmark = pytest.mark.kernels
TOKENS = 33
TOLERANCE = 1e-6  # of the largest number
# Fused multiply-adds of vectors, and calls of the C library, by architecture.
FUSED = {
    "x86_64": (r"vfmadd\w+ps\b.*[yz]mm", r"\bcallq?\s+(?!__tvm|TVM)"),
    "arm64": (r"\bfmla\b", r"\bbl\s+(?!__tvm|TVM)"),
}


@cache
def every_call() -> list[Call]:
    """Of few tokens and of many; the state is changed in place in every other one."""
    odd = zip(small(TOKENS).values(), cycle([(1, 7), (2, TOKENS)]), strict=False)
    full = zip(wide(TOKENS).values(), cycle([(1, TOKENS), (1, 7), (1, 2)]), strict=False)
    calls = [(operator, tokens) for operator, lengths in [*odd, *full] for tokens in lengths]
    return [Call(operator, tokens, i % 4 in (0, 3)) for i, (operator, tokens) in enumerate(calls)]


@cache
def results_of(runner: str) -> Results:
    return RUNNERS[runner](every_call())


def error(found: Array, wanted: Array) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("runner", RUNNERS)
def test_kernels_equal_the_reference(runner: str) -> None:
    for call, pair in zip(every_call(), results_of(runner), strict=True):
        for found, wanted in zip(pair, call.wanted(), strict=True):
            assert error(found, wanted) <= TOLERANCE, call


def test_processors_with_fma_give_the_same_bits() -> None:
    able = [name for name in RUNNERS if FORMS[LEVELS[name].kernels].fused]
    assert len(able) > 1
    for call, *pairs in zip(every_call(), *map(results_of, able), strict=True):
        for y, state in pairs:
            assert np.array_equal(y, pairs[0][0]) and np.array_equal(state, pairs[0][1]), call


def test_every_operator_and_family_has_kernels() -> None:
    assert {f"ladder.{name}" for name in OPERATORS} == set(CONVERTERS)
    assert {level.kernels for level in LEVELS.values()} == set(FORMS)


@pytest.mark.parametrize("of_model", [True, False])
def test_only_states_of_a_model_are_changed_in_place(of_model: bool) -> None:
    operator = Maker(3).linear_recurrence()
    model = operator.model(3, of_model)
    (node,) = model.graph
    assert changed_in_place(node) is of_model
    names = [STATE if of_model and i == operator.state else f"i{i}" for i in range(3)]
    parts = operator.part(0, 3, operator.first)
    feeds = {name: part for name, part in zip(names, parts, strict=True) if part is not None}
    outputs = run_compiled(model, HERE[0], feeds).outputs
    for found, wanted in zip(outputs, operator.reference(*parts), strict=True):
        assert error(found, wanted) <= TOLERANCE


def test_a_state_that_is_read_twice_is_copied() -> None:
    model = Maker(3).linear_recurrence().model(3, of_model=True)
    (node,) = model.graph
    model.graph.outputs.append(model.graph.inputs[-1])
    assert not changed_in_place(node)


def test_a_convolution_of_one_tap_is_refused() -> None:
    call = Call(Maker(2).conv("none", bias=False, taps=1), 2, in_place=False)
    with pytest.raises(LadderError, match="CausalConvWithState with a weight of one tap has no k"):
        call.kernel("avx2")


@pytest.mark.parametrize("family", ["avx2", "avx512", "neon"])
@pytest.mark.parametrize("name", ["scan, wide", "gated delta, wide", "wkv, wide"])
def test_inner_loops_are_vectors_without_calls(family: str, name: str) -> None:
    """Exponentials too: a call of the C library would take longer than the loop around it."""
    level = next(x for x in LEVELS.values() if x.kernels == family)
    func = Call(wide(TOKENS)[name], TOKENS, in_place=True).kernel(family)
    text = assembly([func], level.llvm)[name_of(func)]
    fused, call = FUSED[level.arch]
    bodies = ["\n".join(lines) for lines in innermost(text.splitlines(), level.arch)]
    assert any(re.search(fused, body) for body in bodies)
    assert not any(re.search(call, body) for body in bodies)
