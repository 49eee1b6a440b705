"""Recurrent operators: bodies under ONNX Runtime equal the reference, splits of a text agree."""

from __future__ import annotations

import numpy as np
import pytest
from dialect_cases import run
from recurrent_cases import Array, Operator, small

TOLERANCE = 1e-5
TOKENS = 7
OPERATORS = small(TOKENS)


@pytest.fixture(params=OPERATORS)
def operator(request: pytest.FixtureRequest) -> Operator:
    return OPERATORS[request.param]


@pytest.mark.parametrize("tokens", [1, 2, TOKENS])
def test_body_equals_reference(operator: Operator, tokens: int) -> None:
    operands = operator.part(0, tokens, operator.first)
    computed = run(operator.op, operator.overload, operands, operator.attributes)
    for found, wanted in zip(computed, operator.reference(*operands), strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("lengths", [[1] * TOKENS, [2, 5], [6, 1]])
def test_splits_of_a_text_are_exact(operator: Operator, lengths: list[int]) -> None:
    first = operator.first
    whole, last = operator.reference(*operator.part(0, TOKENS, first))
    state: Array = first
    start = 0
    pieces: list[Array] = []
    for length in lengths:
        y, state = operator.reference(*operator.part(start, start + length, state))
        pieces.append(y)
        start += length
    np.testing.assert_array_equal(np.concatenate(pieces, operator.axis), whole)
    np.testing.assert_array_equal(state, last)


def test_verify_names_what_is_missing() -> None:
    operator = OPERATORS["gated"]
    with pytest.raises(AssertionError, match="LinearAttention has no scale"):
        run(operator.op, operator.overload, operator.operands, operator.attributes[:2])
    with pytest.raises(AssertionError, match="LinearAttention has no operand beta"):
        run(operator.op, "gated_delta", operator.operands, operator.attributes)
