"""Kernels of recurrent operators equal the reference, in any split of a text."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from compiled import run_compiled
from emulation.recurrent import RUNNERS, Call, Results
from kernel_cases import HERE
from recurrent_cases import STATE, Array, Maker, Operator, small, wide

from ladder.codegen.context import Context
from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS
from ladder.codegen.recurrence import changed_in_place
from ladder.ir.recurrence import OPERATORS as NAMES

pytestmark = pytest.mark.kernels
TOKENS = 33
LENGTHS = (1, 2, 7, TOKENS)
OPERATORS = small(TOKENS) | wide(TOKENS)
TOLERANCE = 1e-6  # of the largest number


def every_call() -> list[Call]:
    """Of all lengths; the state is changed in place in every other one."""
    return [
        Call(operator, tokens, (i + j) % 2 == 0)
        for i, operator in enumerate(OPERATORS.values())
        for j, tokens in enumerate(LENGTHS)
    ]


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
            assert error(found, wanted) <= TOLERANCE, (call.operator.op, call)
