"""Sources of the float activation that a kernel quantizes: read, normalized, or gated.

A source computes the K numbers of a token when they are needed, bit-equal to the kernel or graph
that would write them to memory first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.float_math import sigmoid, sum_lanes
from ladder.codegen.kernels.vector import Expr, const, lanes, plus_product, splat
from ladder.codegen.layout import CHUNK, LANES

# (state, x, operand, m, i, width) -> numbers i .. i + width - 1 of token m
Value = Callable[[Any, Any, Any, Expr, Expr, int], Expr]


@dataclass(frozen=True)
class Source:
    """``name`` is the beginning of a kernel's name. The operands are x [M, ``width`` K] and, with
    ``operand_axes``, one more: [K], or [M, K].

    ``epsilon`` is that of a normalization, which reads the whole token first.
    """

    name: str
    value: Value
    width: int = 1
    operand_axes: int = 0
    epsilon: float | None = None


def at(buffer: Any, m: Expr, i: Expr, width: int) -> Expr:
    """``width`` neighbouring elements of row m."""
    return buffer[m, lanes(i)] if width == LANES else buffer[m, i]


@T.inline
def inverse_rms(inverse, x, m, k, epsilon):  # type: ignore[no-untyped-def]
    """inverse[0] = 1 / sqrt(mean(x[m]^2) + epsilon)."""
    acc = T.alloc_buffer((LANES,), "float32", scope="local")
    acc[lanes(0)] = splat(T.float32(0), LANES)
    for i in T.serial(k // LANES):
        some = T.meta_var(x[m, lanes(i * LANES)])
        acc[lanes(0)] = plus_product(acc[lanes(0)], some, some)
    inverse[0] = sum_lanes(acc[lanes(0)])
    for i in T.serial(k % LANES):
        one = T.meta_var(x[m, k // LANES * LANES + i])
        inverse[0] = plus_product(inverse[0], one, one, 1)
    inverse[0] = T.float32(1) / T.sqrt(inverse[0] / T.cast(k, "float32") + T.float32(epsilon))


def normalized(state: Any, x: Any, weight: Any, m: Expr, i: Expr, width: int) -> Expr:
    """x * state[0] * weight."""
    scale = weight[lanes(i)] if width == LANES else weight[i]
    return at(x, m, i, width) * const(state[0], width) * scale


def _gated(gate: Expr, up: Expr, width: int) -> Expr:
    return gate * sigmoid(gate, width) * up


PLAIN = Source("", lambda state, x, operand, m, i, width: at(x, m, i, width))


@cache
def rms_norm(epsilon: float) -> Source:
    """RMSNormalization of x by the weights ``operand``."""
    return Source("rms_norm_", normalized, operand_axes=1, epsilon=epsilon)


GATE = Source(
    "gate_",
    lambda state, x, up, m, i, width: _gated(at(x, m, i, width), at(up, m, i, width), width),
    operand_axes=2,
)


@cache
def stacked_gate(gate_first: bool) -> Source:
    """Gate and up are the two halves of x [M, 2 K]."""

    def value(state: Any, x: Any, operand: Any, m: Expr, i: Expr, width: int) -> Expr:
        half = x.shape[1] // 2
        gate, up = (i, half + i) if gate_first else (half + i, i)
        return _gated(at(x, m, gate, width), at(x, m, up, width), width)

    return Source("gate_up_" if gate_first else "up_gate_", value, width=2)


@cache
def load_block(source: Source, size: int) -> Any:
    """Loads one block of a token into ``padded``, with zeros after its end up to a whole chunk."""
    value = source.value

    @T.inline
    def load(padded, state, args, m, block, k):  # type: ignore[no-untyped-def]
        length = T.meta_var(T.min(T.int64(size), k - block * size))
        for i in T.serial(length // CHUNK):
            at_chunk = T.meta_var(block * size + i * CHUNK)
            padded[lanes(i * CHUNK)] = value(state, args.x, args.operand, m, at_chunk, LANES)
        if length % CHUNK != 0:
            padded[lanes(length // CHUNK * CHUNK)] = splat(T.float32(0), LANES)
            for j in T.serial(length % CHUNK):
                tail = T.meta_var(length // CHUNK * CHUNK + j)
                padded[tail] = value(state, args.x, args.operand, m, block * size + tail, 1)

    return load
