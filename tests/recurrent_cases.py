"""Recurrent operators with operands of random numbers, and any part of their text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.ir import dialect, recurrence
from ladder.ir.states import next_name

Array = np.ndarray
STATE, OUTPUT = "state.0.held", "y"


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

    @property
    def first(self) -> Array:
        """The state before the text."""
        held = self.operands[self.state]
        assert held is not None
        return held

    def part(self, start: int, end: int, state: Array | None) -> list[Array | None]:
        """The operands of some tokens, after a state."""
        tokens = (slice(None),) * self.axis + (slice(start, end),)
        parts: list[Any] = list(self.operands)
        for i in self.moving:
            parts[i] = None if parts[i] is None else parts[i][tokens]
        parts[self.state] = state
        return parts

    def model(self, tokens: int, of_model: bool) -> ir.Model:
        """A graph of this operator for so many tokens, whose operands are inputs.

        ``of_model``: the state is one of a language model, as its name tells.
        """
        values: dict[int, ir.Value] = {}
        for i, array in enumerate(self.part(0, tokens, self.first)):
            if array is not None:
                name = STATE if i == self.state and of_model else f"i{i}"
                kind, shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(array.shape)
                values[i] = ir.Value(name=name, type=kind, shape=shape)
        names = [OUTPUT, next_name(STATE) if of_model else "after"]
        outputs = [ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT)) for name in names]
        operands = [values.get(i) for i in range(len(self.operands))]
        node = dialect.node(self.op, self.overload, operands, outputs, self.attributes)
        opsets = {"": dialect.OPSET, dialect.DOMAIN: dialect.VERSION}
        graph = ir.Graph([*values.values()], outputs, nodes=[node], opset_imports=opsets, name="g")
        return ir.Model(graph, ir_version=12)


class Maker:
    """Makes operators for texts of ``tokens`` tokens."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._random = np.random.default_rng(0)

    def normal(self, *shape: int) -> Array:
        return self._random.standard_normal(shape).astype(np.float32)

    def conv(self, activation: str, bias: bool, taps: int = 4, channels: int = 6) -> Operator:
        operands = (
            self.normal(1, channels, self.tokens),
            self.normal(channels, 1, taps),
            self.normal(channels) if bias else None,
        )
        return Operator(
            "CausalConvWithState",
            activation,
            (*operands, self.normal(1, channels, taps - 1)),
            (0,),
            3,
            partial(recurrence.causal_conv, activation=activation),
            (ir.AttrInt64("group", channels),),
            axis=2,
        )

    def attention(
        self, rule: str, by_key: bool = False, groups: int = 1, heads: int = 3,
        size: tuple[int, int] = (5, 4), scale: float = 0.3,
    ) -> Operator:  # fmt: skip
        (k, v), s = size, self.tokens
        decay = -np.abs(self.normal(1, s, heads * k if by_key else heads))
        beta = np.abs(self.normal(1, s, heads)) / 4
        key = self.normal(1, s, heads * k) / np.float32(k**0.5)
        return Operator(
            "LinearAttention",
            rule,
            (
                self.normal(1, s, heads * groups * k),
                key,
                self.normal(1, s, heads * v),
                self.normal(1, heads, k, v),
                decay if rule in recurrence.DECAYS else None,
                beta if rule in recurrence.CORRECTS else None,
            ),
            (0, 1, 2, 4, 5),
            3,
            partial(recurrence.linear_attention, scale=scale),
            (
                ir.AttrInt64("q_num_heads", heads * groups),
                ir.AttrInt64("kv_num_heads", heads),
                ir.AttrFloat32("scale", scale),
            ),
        )

    def selective_scan(self, channels: int = 6, states: int = 5) -> Operator:
        x, dt = self.normal(1, self.tokens, channels), self.normal(1, self.tokens, channels)
        a = -np.abs(self.normal(channels, states))
        b, c = (self.normal(1, self.tokens, states) for _ in range(2))
        operands = (x, np.abs(dt), a, b, c, self.normal(1, channels, states))
        return Operator("SelectiveScan", "", operands, (0, 1, 3, 4), 5, recurrence.selective_scan)

    def linear_recurrence(self, channels: int = 6) -> Operator:
        decay = self._random.random((1, self.tokens, channels), np.float32)
        operands = (self.normal(1, self.tokens, channels), decay, self.normal(1, channels))
        return Operator("LinearRecurrence", "", operands, (0, 1), 2, recurrence.linear_recurrence)

    def wkv(self, fresh: bool, channels: int = 6) -> Operator:
        row = (channels,)
        held = np.stack([self.normal(*row), np.abs(self.normal(*row)), self.normal(*row)])[None]
        start = np.array(recurrence.WKV_RESET, np.float32)[None, :, None]
        key, value = (self.normal(1, self.tokens, channels) for _ in range(2))
        operands = (8 * key, value, -np.abs(self.normal(*row)), self.normal(*row))
        state = np.broadcast_to(start, held.shape).copy() if fresh else held
        return Operator("Wkv", "", (*operands, state), (0, 1), 4, recurrence.wkv)


def small(tokens: int) -> dict[str, Operator]:
    """Every operator and variant, small and with odd sizes."""
    make = Maker(tokens)
    return {
        "conv": make.conv("none", bias=True),
        "conv, silu, no bias": make.conv("silu", bias=False),
        "conv, three taps": make.conv("silu", bias=True, taps=3),
        "linear": make.attention("linear"),
        "gated": make.attention("gated"),
        "gated, by key": make.attention("gated", by_key=True),
        "gated, groups": make.attention("gated", groups=2),
        "delta": make.attention("delta"),
        "gated delta": make.attention("gated_delta"),
        "scan": make.selective_scan(),
        "recurrence": make.linear_recurrence(),
        "wkv": make.wkv(fresh=False),
        "wkv, first": make.wkv(fresh=True),
    }


def wide(tokens: int) -> dict[str, Operator]:
    """Sizes that fill vector registers, in part with a rest."""
    make = Maker(tokens)
    return {
        "conv, wide": make.conv("silu", bias=True, channels=48),
        "gated, wide": make.attention("gated", heads=2, size=(32, 64), scale=1.0),
        "gated, wide, groups": make.attention("gated", groups=2, heads=2, size=(16, 8)),
        "gated delta, wide": make.attention("gated_delta", heads=17, size=(16, 128), scale=1.0),
        "gated delta, by key": make.attention("gated_delta", by_key=True, size=(24, 48)),
        "scan, wide": make.selective_scan(channels=20, states=16),
        "scan, 24 states": make.selective_scan(channels=8, states=24),
        "recurrence, wide": make.linear_recurrence(channels=96),
        "wkv, wide": make.wkv(fresh=True, channels=40),
    }
