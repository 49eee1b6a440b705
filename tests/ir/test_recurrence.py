"""Recurrent operators: bodies under ONNX Runtime equal the reference, splits of a text agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from dialect_cases import run

from ladder.ir import recurrence

TOLERANCE = 1e-5
TOKENS = 7
RNG = np.random.default_rng(0)
Array = np.ndarray


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


@dataclass(frozen=True)
class Operator:
    """An operator with operands; ``moving`` are those with a token axis, ``state`` the state."""

    op: str
    overload: str
    operands: tuple[Array | None, ...]
    moving: tuple[int, ...]
    state: int
    reference: Callable[..., tuple[Array, Array]]
    attributes: tuple[ir.Attr, ...] = ()
    axis: int = 1

    def part(self, start: int, end: int, state: Array | None) -> list[Array | None]:
        """The operands of some tokens, after a state."""
        tokens = (slice(None),) * self.axis + (slice(start, end),)
        parts: list[Any] = list(self.operands)
        for i in self.moving:
            parts[i] = None if parts[i] is None else parts[i][tokens]
        parts[self.state] = state
        return parts


def conv(activation: str, bias: bool, taps: int = 4) -> Operator:
    operands = (normal(1, 6, TOKENS), normal(6, 1, taps), normal(6) if bias else None)
    return Operator(
        "CausalConvWithState",
        activation,
        (*operands, normal(1, 6, taps - 1)),
        (0,),
        3,
        partial(recurrence.causal_conv, activation=activation),
        (ir.AttrInt64("group", 6),),
        axis=2,
    )


def attention(rule: str, decay_size: int = 1, groups: int = 1) -> Operator:
    heads, k, v = 3, 5, 4
    decay = -np.abs(normal(1, TOKENS, heads * decay_size))
    beta = np.abs(normal(1, TOKENS, heads)) / 4
    operands = (normal(1, TOKENS, heads * groups * k), normal(1, TOKENS, heads * k) / 2)
    return Operator(
        "LinearAttention",
        rule,
        (
            *operands,
            normal(1, TOKENS, heads * v),
            normal(1, heads, k, v),
            decay if rule in recurrence.DECAYS else None,
            beta if rule in recurrence.CORRECTS else None,
        ),
        (0, 1, 2, 4, 5),
        3,
        partial(recurrence.linear_attention, scale=0.3),
        (
            ir.AttrInt64("q_num_heads", heads * groups),
            ir.AttrInt64("kv_num_heads", heads),
            ir.AttrFloat32("scale", 0.3),
        ),
    )


def selective_scan() -> Operator:
    x, dt, a = normal(1, TOKENS, 6), np.abs(normal(1, TOKENS, 6)), -np.abs(normal(6, 5))
    operands = (x, dt, a, normal(1, TOKENS, 5), normal(1, TOKENS, 5), normal(1, 6, 5))
    return Operator("SelectiveScan", "", operands, (0, 1, 3, 4), 5, recurrence.selective_scan)


def linear_recurrence() -> Operator:
    operands = (normal(1, TOKENS, 6), RNG.random((1, TOKENS, 6), np.float32), normal(1, 6))
    return Operator("LinearRecurrence", "", operands, (0, 1), 2, recurrence.linear_recurrence)


def wkv(fresh: bool) -> Operator:
    held = np.stack([normal(6), np.abs(normal(6)), normal(6)])[None]
    reset = np.broadcast_to(np.array(recurrence.WKV_RESET, np.float32)[None, :, None], held.shape)
    operands = (8 * normal(1, TOKENS, 6), normal(1, TOKENS, 6), -np.abs(normal(6)), normal(6))
    state = reset.copy() if fresh else held
    return Operator("Wkv", "", (*operands, state), (0, 1), 4, recurrence.wkv)


OPERATORS = {
    "conv": conv("none", bias=True),
    "conv, silu, no bias": conv("silu", bias=False),
    "conv, three taps": conv("silu", bias=True, taps=3),
    "linear": attention("linear"),
    "gated": attention("gated"),
    "gated, by key": attention("gated", decay_size=5),
    "gated, groups": attention("gated", groups=2),
    "delta": attention("delta"),
    "gated delta": attention("gated_delta"),
    "scan": selective_scan(),
    "recurrence": linear_recurrence(),
    "wkv": wkv(fresh=False),
    "wkv, first": wkv(fresh=True),
}


@pytest.fixture(params=OPERATORS)
def operator(request: pytest.FixtureRequest) -> Operator:
    return OPERATORS[request.param]


@pytest.mark.parametrize("tokens", [1, 2, TOKENS])
def test_body_equals_reference(operator: Operator, tokens: int) -> None:
    operands = operator.part(0, tokens, operator.operands[operator.state])
    computed = run(operator.op, operator.overload, operands, operator.attributes)
    for found, wanted in zip(computed, operator.reference(*operands), strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("lengths", [[1] * TOKENS, [2, 5], [6, 1]])
def test_splits_of_a_text_are_exact(operator: Operator, lengths: list[int]) -> None:
    first = operator.operands[operator.state]
    whole, last = operator.reference(*operator.part(0, TOKENS, first))
    state, start = first, 0
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
