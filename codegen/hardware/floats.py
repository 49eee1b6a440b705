"""Sums of floats: terms are aligned to the largest exponent, added as integers, normalized.

``ladder.codegen.hardware.float_reference`` has the same in NumPy and says what is cut off. Floats
have no infinities and no subnormal numbers here: an exponent of 0 means zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from ladder.codegen.hardware.float_reference import FRACTION, HEADROOM, LARGEST, SINGLE
from ladder.hardware.tensor_cores import Activation


@dataclass(frozen=True)
class Term:
    """(-1)^sign 2^exponent magnitude / 2^FRACTION; ``exponent`` has the bias of float32."""

    sign: Value
    exponent: Value
    magnitude: Value


def float_term(value: Value, kind: Activation) -> Term:
    """A float of ``kind`` as a term."""
    fraction, exponent = value[: kind.mantissa], value[kind.mantissa : kind.bits - 1]
    return Term(
        value[-1],
        Mux(exponent == 0, 0, exponent + (SINGLE.bias - kind.bias)),
        Mux(exponent == 0, 0, Cat(Const(0, FRACTION - kind.mantissa), fraction, Const(1, 1))),
    )


def product_term(m: Module, a: Value, b: Value, kind: Activation) -> Term:
    """The exact product of two floats of ``kind``, between 1 and 4 times its power of two."""
    parts = [(v[: kind.mantissa], v[kind.mantissa : kind.bits - 1]) for v in (a, b)]
    zero = reduce(lambda x, y: x | y, [exponent == 0 for _, exponent in parts])
    (left, first), (right, second) = parts
    product = Signal(2 * kind.mantissa + 2)
    m.d.comb += product.eq(Cat(left, Const(1, 1)) * Cat(right, Const(1, 1)))
    exponent = first + second + (SINGLE.bias - 2 * kind.bias)
    magnitude = Cat(Const(0, FRACTION - 2 * kind.mantissa), product)
    return Term(a[-1] ^ b[-1], Mux(zero, 0, exponent)[:8], Mux(zero, 0, magnitude))


def aligned_sum(m: Module, terms: Sequence[Term]) -> Value:
    """The sum as float32 bits [32]; what is smaller than the last kept place is cut off."""
    largest = reduce(lambda a, b: Mux(a > b, a, b), [_named(m, t.exponent) for t in terms])
    held = _named(m, largest)
    total = _named_signed(m, sum((_aligned(m, t, held) for t in terms), Const(0, 1)))
    negative = total[-1]
    magnitude = _named(m, Mux(negative, -total, total)[: FRACTION + HEADROOM])
    return _packed(m, negative, held, magnitude)


def _aligned(m: Module, term: Term, largest: Value) -> Value:
    """The term as a signed integer whose unit is that of the largest exponent."""
    distance = _named(m, (largest - term.exponent)[:8])
    near = _named(m, term.magnitude >> distance[:5])
    kept = _named(m, Mux(distance[5:].any(), 0, near))
    return Mux(term.sign, -kept, kept)


def _packed(m: Module, negative: Value, exponent: Value, magnitude: Value) -> Value:
    """float32 bits of a magnitude of FRACTION + HEADROOM bits."""
    count, current = Const(0, 1), magnitude
    width = len(magnitude)
    for step in (16, 8, 4, 2, 1):  # shift left until the highest bit is set
        empty = ~current[width - step :].any()
        current = _named(m, Mux(empty, current << step, current)[:width])
        count = count + Mux(empty, step, 0)
    # Before the shift, bit FRACTION weighs 2^exponent.
    scaled = _named_signed(m, exponent + (HEADROOM - 1) - count)
    fraction = current[width - 1 - SINGLE.mantissa : width - 1]
    small = (magnitude == 0) | (scaled <= 0)
    body = Mux(
        small, 0, Mux(scaled > LARGEST >> SINGLE.mantissa, LARGEST, Cat(fraction, scaled[:8]))
    )
    return Cat(body[:31], negative & ~small)


def _named(m: Module, value: Value) -> Signal:
    result = Signal(len(value))
    m.d.comb += result.eq(value)
    return result


def _named_signed(m: Module, value: Value) -> Signal:
    result = Signal(signed(len(value) + 1))
    m.d.comb += result.eq(value)
    return result
