"""Tables of sums, computed from the activations of one row."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Signal, Value, signed


def signed_sums(m: Module, x: Sequence[Value]) -> list[Value]:
    """The 2^K sums x[0] ± x[1] ± ...: entry i has plus where bit j of i is set.

    The halves of x are summed first, so that each partial sum is computed once.
    """
    if len(x) == 1:
        return [-x[0], x[0]]
    half = len(x) // 2
    low, high = signed_sums(m, x[:half]), signed_sums(m, x[half:])
    return [_named(m, low[i & ~(-1 << half)] + high[i >> half]) for i in range(1 << len(x))]


def half_table(m: Module, x: Sequence[Value]) -> list[Value]:
    """The 2^(K-1) sums with a positive last activation: entry i has bits 0 to K-2 as above.

    The other half of the sums are these, negated: weights are read as -1 and +1.
    """
    if len(x) == 1:
        return [x[0]]
    half = len(x) // 2
    low, high = signed_sums(m, x[:half]), half_table(m, x[half:])
    count = 1 << len(x) - 1
    return [_named(m, low[i & ~(-1 << half)] + high[i >> half]) for i in range(count)]


def full_table(m: Module, x: Sequence[Value]) -> list[Value]:
    """The 2^K sums of the activations whose bit in i is set: weights are read as 0 and 1."""
    if len(x) == 1:
        return [x[0] & 0, x[0]]
    half = len(x) // 2
    low, high = full_table(m, x[:half]), full_table(m, x[half:])
    return [_named(m, low[i & ~(-1 << half)] + high[i >> half]) for i in range(1 << len(x))]


def _named(m: Module, value: Value) -> Signal:
    """A signal of its own, so that several readers share one adder."""
    result = Signal(signed(len(value)))
    m.d.comb += result.eq(value)
    return result
