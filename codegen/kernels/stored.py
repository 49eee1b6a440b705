"""How kernels read stored scales and zero points of any type.

The bit operations are exact, and every target has them; ``width`` is 16 lanes or 1.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm.script import tirx as T

from ladder.codegen.kernels.vector import Expr, const, plus_product, typed
from ladder.codegen.layout import LANES, Packing

SMALLEST_E8M0 = 0x00400000  # 2^-127, a denormal in float32

Decode = Callable[[Expr, int], Expr]


def _bfloat(bits: Expr, width: int) -> Expr:
    return _float(T.shift_left(bits, _int(16, width)), width)


def _power(bits: Expr, width: int) -> Expr:
    exponent = T.shift_left(bits, _int(23, width))
    return _float(T.max(exponent, _int(SMALLEST_E8M0, width)), width)


def _small_float(sign_bit: int, up: int, bias: float) -> Decode:
    """``up`` shifts the magnitude to float32's exponent; the factor ``bias`` corrects the bias.

    Denormals need no special case.
    """

    def decode(bits: Expr, width: int) -> Expr:
        sign = T.shift_left(T.shift_right(bits, _int(sign_bit, width)), _int(31, width))
        magnitude = T.bitwise_and(bits, _int((1 << sign_bit) - 1, width))
        number = _float(T.bitwise_or(sign, T.shift_left(magnitude, _int(up, width))), width)
        return number * const(T.float32(bias), width)

    return decode


# How the bits of each type of ``ladder.ir.scale`` become float32; fp32 needs no step.
DECODERS: dict[str, Decode] = {
    "fp16": _small_float(15, 13, 2.0**112),
    "bf16": _bfloat,
    "e8m0": _power,
    "e4m3": _small_float(7, 20, 2.0**120),
}


def to_float(stored: Expr, kind: str, width: int = LANES) -> Expr:
    """Stored scales of type ``kind`` -> float32."""
    if kind == "fp32":
        return stored
    return DECODERS[kind](T.cast(stored, typed("int32", width)), width)


def _int(value: int, width: int) -> Expr:
    return const(T.int32(value), width)


def _float(bits: Expr, width: int) -> Expr:
    return T.reinterpret(bits, dtype=typed("float32", width))


def scale_of(packing: Packing, stored: Expr, factor: Expr, width: int = LANES) -> Expr:
    """``numerics.stored_scale``: float32, times the number ``factor`` [1] if there is one."""
    scale = to_float(stored, packing.scale, width)
    return scale * const(factor[0], width) if packing.factor else scale


def float_zero(packing: Packing, stored: Expr, width: int = LANES) -> Expr:
    """The stored zero points, or the offset of a type without zero points, as float32."""
    if not packing.zero:
        return const(T.float32(packing.offset), width)
    if packing.float_zero:
        return to_float(stored, packing.scale, width)
    return T.cast(stored, typed("float32", width))


def number_at(packing: Packing, code: Expr, zero: Expr, values: Expr, width: int = LANES) -> Expr:
    """The decoded number without its scale, float32: step * code - zero, or a book's entry.

    With a minimum it is the code alone.
    """
    if packing.digits:
        return values[code]
    number = T.cast(code * _int(packing.step, width), typed("float32", width))
    return number if packing.minimum else number - zero


def weight_of(
    packing: Packing, number: Expr, scale: Expr, minimum: Expr, width: int = LANES
) -> Expr:
    """The weight, float32: number * scale, plus the minimum if there is one."""
    return plus_product(minimum, number, scale, width) if packing.minimum else number * scale
