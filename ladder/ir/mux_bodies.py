"""The bodies of ``MuxActivation`` and ``MuxGemm``, as lines of ONNX text (``ladder.ir.mux``)."""

from __future__ import annotations

from ladder.ir import activation_bodies
from ladder.ir.activation import BLOCK, QUANTIZED, STATIC, parse_overload
from ladder.ir.dtype import DType
from ladder.ir.mux import MUXQ, Mux


def activation_overload(mode: str, mux: Mux, block: int) -> str:
    """``int8:tensor:digits7:k4096``."""
    return f"{mode}:{mux}:k{block}"


def parse_activation(text: str) -> tuple[str, Mux, int]:
    """Undo ``activation_overload``: (mode, mux, block)."""
    front, block = parse_overload(text)
    mode, _, mux = front.rpartition(":")
    return mode, Mux.parse(mux), block


def activation_codes(mode: str, mux: Mux, block: int) -> list[str]:
    """(x, channels[, static]) -> q, aux, scale, total."""
    kind = QUANTIZED[mode]
    return [
        *_per_channel("small", 1 / mux.reach, 1.0),
        "reduced = Mul (x, small)",
        *_scale(mode, block),
        *_values(mode, mux),
        "whole_x = Round (value)",
        *_body(mux),
        *_aux(mux),
        "body_byte = Cast <to=3> (body_x)",
        *_byte_blocks(block),
        *_total(mux, block),
        *activation_bodies.scale_of_blocks(kind.granularity),
    ]


def _per_channel(name: str, outlier: float, ordinary: float) -> list[str]:
    """float32 [K]: one number for outlier channels, another for the others."""
    return [
        f"{name}_k = Shape <start=-1> (x)",
        f"{name}_scalar = Constant <value_float={ordinary!r}> ()",
        f"{name}_every = Expand ({name}_scalar, {name}_k)",
        f"{name}_count = Shape (channels)",
        f"{name}_one = Constant <value_float={outlier!r}> ()",
        f"{name}_few = Expand ({name}_one, {name}_count)",
        f"{name} = ScatterElements <axis=0> ({name}_every, channels, {name}_few)",
    ]


def _scale(mode: str, block: int) -> list[str]:
    """kept, and inverse_x [..., K] or a shape that broadcasts to it."""
    kind = QUANTIZED[mode]
    static = kind.granularity == STATIC
    lines = [
        *activation_bodies.blocks(block, "reduced"),
        "size = Abs (blocks)",
        *([] if static else activation_bodies.largest(kind.granularity)),
        *activation_bodies.scale_and_inverse(kind.bits, static),
    ]
    if static:
        return [*lines, "inverse_x = Identity (inverse)"]
    if kind.granularity != BLOCK:
        return [*lines, "inverse_x = Squeeze (inverse, last)"]
    return [
        *lines,
        "each = Expand (inverse, block)",
        "wide_shape = Concat <axis=0> (lead, last)",
        "wide_inverse = Reshape (each, wide_shape)",
        "front = Constant <value_ints=[0]> ()",
        "inverse_x = Slice (wide_inverse, front, k, last)",
    ]


def _values(mode: str, mux: Mux) -> list[str]:
    """value [..., K] in units of the scale, clipped if the scale is static."""
    source = "reduced" if mux.method == MUXQ else "x"
    if QUANTIZED[mode].granularity != STATIC:
        return [f"value = Mul ({source}, inverse_x)"]
    lines = [f"unclipped = Mul ({source}, inverse_x)"]
    if mux.method == MUXQ:
        return [*lines, *activation_bodies.clipped("unclipped", "value")]
    return [
        *lines,
        "limit = Div (levels, small)",
        *activation_bodies.clipped("unclipped", "value", "limit"),
    ]


def _body(mux: Mux) -> list[str]:
    """body_x [..., K]: the lowest digit of outliers, the whole integer of other channels."""
    if mux.method == MUXQ:
        return ["body_x = Identity (whole_x)"]
    return [
        *_per_channel("part", 1 / mux.factor, 0.0),
        "parted = Mul (whole_x, part)",
        "higher_x = Round (parted)",
        f"factor = Constant <value_float={float(mux.factor)!r}> ()",
        "taken = Mul (higher_x, factor)",
        "body_x = Sub (whole_x, taken)",
    ]


def _aux(mux: Mux) -> list[str]:
    """aux [..., D, O]: the higher digits, lowest first."""
    lines = [
        "picked = Gather <axis=-1> (whole_x, channels)"
        if mux.method == MUXQ
        else "picked = Gather <axis=-1> (higher_x, channels)",
        f"down = Constant <value_float={1 / mux.factor!r}> ()",
        "above_last = Constant <value_ints=[-2]> ()",
        "rest0 = Identity (picked)",
    ]
    for d in range(mux.digits - 1):
        lines += [
            f"shifted{d} = Mul (rest{d}, down)",
            f"rest{d + 1} = Round (shifted{d})",
            f"raised{d} = Mul (rest{d + 1}, factor)",
            f"digit{d} = Sub (rest{d}, raised{d})",
            f"deep{d} = Unsqueeze (digit{d}, above_last)",
        ]
    top = mux.digits - 1
    every = ", ".join(f"deep{d}" for d in range(mux.digits))
    return [
        *lines,
        f"deep{top} = Unsqueeze (rest{top}, above_last)",
        f"digits = Concat <axis=-2> ({every})",
        "aux = Cast <to=3> (digits)",
    ]


def _byte_blocks(block: int) -> list[str]:
    """q [..., B, block] from the floats of the body; short blocks are padded with zeros."""
    return [*activation_bodies.blocks(block, "body_x", "body_"), "q = Cast <to=3> (body_blocks)"]


def _total(mux: Mux, block: int) -> list[str]:
    """total [..., B]: the sum of whole integers, exact in int32."""
    lines = ["all_x = Identity (whole_x)"]
    if mux.method == MUXQ:
        lines = ["all_x = Div (whole_x, small)"]
    return [
        *lines,
        *activation_bodies.blocks(block, "all_x", "all_"),
        "all_wide = Cast <to=6> (all_blocks)",
        "total = ReduceSum <keepdims=0> (all_wide, last)",
    ]


def aux_sums(mux: Mux, dtype: DType, block: int) -> list[str]:
    """aux_sums [B, M, N]: the products of the digits of aux times their weights."""
    weights = ", ".join(str(mux.factor ** (d + 1)) for d in range(mux.digits))
    lines = [
        "aux_inner = Shape <start=-2> (aux)",
        "aux_shape = Concat <axis=0> (last, aux_inner)",
        "flat_aux = Reshape (aux, aux_shape)",
        "aux_at = Transpose <perm=[1, 0, 2]> (flat_aux)",
        f"places64 = Constant <value_ints=[{weights}]> ()",
        "places32 = Cast <to=6> (places64)",
    ]
    if block == dtype.block:
        return [*lines, *_aux_by_block(block)]
    return [
        *lines,
        "aux_codes = Gather <axis=1> (byte_codes, channels)",
        "aux_wt = Transpose <perm=[1, 0]> (aux_codes)",
        "aux_products = MatMulInteger (aux_at, aux_wt)",
        "aux_front = Constant <value_ints=[0]> ()",
        "places_shape = Constant <value_ints=[-1, 1, 1]> ()",
        "places = Reshape (places32, places_shape)",
        "aux_weighed = Mul (aux_products, places)",
        "aux_sums = ReduceSum <keepdims=1> (aux_weighed, aux_front)",
    ]


def _aux_by_block(block: int) -> list[str]:
    """Digits at the positions of their channels, zeros elsewhere, split into scale blocks."""
    return [
        "aux_tokens = Shape <end=2> (aux_at)",
        "aux_k = Shape <start=1> (byte_codes)",
        "aux_wide = Concat <axis=0> (aux_tokens, aux_k)",
        "aux_nothing = ConstantOfShape (aux_wide)",
        "aux_each = Shape (aux_at)",
        "aux_to = Expand (channels, aux_each)",
        "aux_float = Cast <to=1> (aux_at)",
        "aux_x = ScatterElements <axis=-1> (aux_nothing, aux_to, aux_float)",
        *activation_bodies.blocks(block, "aux_x", "aux_in_"),
        "aux_bytes = Cast <to=3> (aux_in_blocks)",
        "aux_turned = Transpose <perm=[0, 2, 1, 3]> (aux_bytes)",
        "aux_products = MatMulInteger (aux_turned, wt)",
        "aux_front = Constant <value_ints=[0]> ()",
        "places_shape = Constant <value_ints=[-1, 1, 1, 1]> ()",
        "places = Reshape (places32, places_shape)",
        "aux_weighed = Mul (aux_products, places)",
        "aux_sums = ReduceSum <keepdims=0> (aux_weighed, aux_front)",
    ]
