"""Pieces of the bodies of the dialect's operators on weights, as lines of ONNX text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ladder.ir.dtype import DType
from ladder.ir.numerics import DIGIT_OFFSET, LUT_GROUP


def dequantized(dtype: DType) -> list[str]:
    """Lines that turn (codes, scale[, zero][, tensor_scale]) into w [N, K]."""
    lines = _wide_scale(dtype, "scale", "wide_scale")
    if dtype.levels:
        return [*lines, *_book_values(dtype), *_scaled("entries", dtype)]
    if dtype.float_zero:
        return [*lines, *_with_float_zero(dtype)]
    return [*lines, *_standard(dtype)]


def _with_float_zero(dtype: DType) -> list[str]:
    """Integers, from which a float is subtracted, or to whose scaled values one is added."""
    lines = [
        "whole = Cast <to=1> (codes)",
        "wide_zero = Cast <to=1> (zero)",
        *_per_weight("wide_zero", "every_zero", "whole", dtype),
    ]
    if dtype.minimum:
        return [*lines, *_scaled("whole", dtype, "above"), "w = Add (above, every_zero)"]
    return [*lines, "moved = Sub (whole, every_zero)", *_scaled("moved", dtype)]


def _standard(dtype: DType) -> list[str]:
    """Integers: ONNX's own DequantizeLinear."""
    zero = ", zero" if dtype.zero_point else ""
    if isinstance(dtype.group, int):
        blocked = f"<axis=1, block_size={dtype.group}>"
        return [f"w = DequantizeLinear {blocked} (codes, wide_scale{zero})"]
    shape = "<value_ints=[-1]>" if dtype.group == "row" else "<value_ints: ints=[]>"
    lines = [f"flat_of = Constant {shape} ()", "flat_scale = Reshape (wide_scale, flat_of)"]
    if zero:
        # ONNX Runtime cannot reshape 2- and 4-bit tensors or fold a Cast to 2 bits, so use bytes.
        lines += [
            "byte_codes = Cast <to=2> (codes)",
            "byte_zero = Cast <to=2> (zero)",
            "flat_zero = Reshape (byte_zero, flat_of)",
        ]
    operands = "byte_codes, flat_scale, flat_zero" if zero else "codes, flat_scale"
    return [*lines, f"w = DequantizeLinear <axis=0> ({operands})"]


def _wide_scale(dtype: DType, name: str, out: str) -> list[str]:
    """The stored scale as float32, times the tensor scale if there is one."""
    if not dtype.tensor_scale:
        return [f"{out} = Cast <to=1> ({name})"]
    return [f"{out}_part = Cast <to=1> ({name})", f"{out} = Mul ({out}_part, tensor_scale)"]


def _book_values(dtype: DType) -> list[str]:
    """entries [N, K]: the values of the codes in the code book."""
    book = ", ".join(repr(float(v)) for v in np.nan_to_num(dtype.element.values, nan=0.0))
    return [
        f"book = Constant <value_floats=[{book}]> ()",
        "entry = Cast <to=6> (codes)",
        "entries = Gather (book, entry)",
    ]


def _scaled(name: str, dtype: DType, out: str = "w") -> list[str]:
    every = _per_weight("wide_scale", "every_scale", name, dtype)
    return [*every, f"{out} = Mul ({name}, every_scale)"]


def _per_weight(name: str, out: str, like: str, dtype: DType) -> list[str]:
    """[N, groups] -> a shape that broadcasts to that of ``like`` [N, K]."""
    if not isinstance(dtype.group, int):
        return [f"{out} = Identity ({name})"]
    return [
        f"{out}_two = Constant <value_ints=[2]> ()",
        f"{out}_one = Constant <value_ints=[1]> ()",
        f"{out}_deep = Unsqueeze ({name}, {out}_two)",
        f"{out}_each = Constant <value_ints=[1, 1, {dtype.group}]> ()",
        f"{out}_many = Expand ({out}_deep, {out}_each)",
        f"{out}_flat = Constant <value_ints=[0, -1]> ()",
        f"{out}_long = Reshape ({out}_many, {out}_flat)",
        f"{out}_from = Constant <value_ints=[0]> ()",
        f"{out}_k = Shape <start=1> ({like})",
        f"{out} = Slice ({out}_long, {out}_from, {out}_k, {out}_one)",
    ]


def flat_activation(name: str, kept: int) -> list[str]:
    """[..., B, ...] -> flat [M, B, ...] and lead, the shape before it."""
    return [
        "last = Constant <value_ints=[-1]> ()",
        f"lead = Shape <end=-{kept}> ({name})",
        f"inner = Shape <start=-{kept}> ({name})",
        "flat_shape = Concat <axis=0> (last, inner)",
        f"flat = Reshape ({name}, flat_shape)",
        "flat_blocks = Shape <start=1, end=2> (flat)",
        "pair_shape = Concat <axis=0> (last, flat_blocks)",
        "flat_scale = Reshape (scale, pair_shape)",
        "flat_total = Reshape (total, pair_shape)",
    ]


def weight_blocks(name: str, block: int, out: str = "") -> list[str]:
    """codes [N, K] -> wb [N, B, block padded to whole tables]; ``out`` is a suffix of new names."""
    padded = -(-block // LUT_GROUP) * LUT_GROUP
    return [
        f"block{out} = Constant <value_ints=[{block}]> ()",
        f"n{out} = Shape <end=1> ({name})",
        f"k{out} = Shape <start=1> ({name})",
        f"minus_k{out} = Neg (k{out})",
        f"rest{out} = Mod (minus_k{out}, block{out})",
        f"three_zeros{out} = Constant <value_ints=[0, 0, 0]> ()",
        f"pads{out} = Concat <axis=0> (three_zeros{out}, rest{out})",
        f"whole{out} = Pad ({name}, pads{out})",
        f"block_shape{out} = Concat <axis=0> (n{out}, last, block{out})",
        f"ragged{out} = Reshape (whole{out}, block_shape{out})",
        f"fill{out} = Constant <value_ints=[0, 0, 0, 0, 0, {padded - block}]> ()",
        f"wb{out} = Pad (ragged{out}, fill{out})",
    ]


def unsigned_codes(dtype: DType) -> list[str]:
    return [
        "wide_codes = Cast <to=6> (codes)",
        f"offset64 = Constant <value_int={dtype.element.offset}> ()",
        "offset = Cast <to=6> (offset64)",
        "shifted = Add (wide_codes, offset)",
        f"step64 = Constant <value_int={dtype.element.step}> ()",
        "step = Cast <to=6> (step64)",
        "counted = Div (shifted, step)",
        "u = Cast <to=2> (counted)",
    ]


def integer_product(dtype: DType, block: int, aux: Sequence[str] = ()) -> list[str]:
    """sums [B, M, N] of integer codes; ``aux`` are lines for more sums, which are added."""
    return [
        f"byte_codes = Cast <to={3 if dtype.element.signed else 2}> (codes)",
        *weight_blocks("byte_codes", block),
        "wt = Transpose <perm=[1, 2, 0]> (wb)",
        "at = Transpose <perm=[1, 0, 2]> (flat)",
        f"{'body' if aux else 'raw'} = MatMulInteger (at, wt)",
        *([*aux, "raw = Add (body, aux_sums)"] if aux else []),
        # A signed code is its value, so only a stored zero point is subtracted.
        *(corrected(dtype, 0, 1) if dtype.zero_point else ["sums = Identity (raw)"]),
    ]


def book_product(dtype: DType) -> list[str]:
    """sums [B, M, N] as floats: each digit of a code book is a separate exact product."""
    found = dtype.levels
    assert found is not None
    count = len(found.digits)
    parts = ", ".join(f"digit{d}" for d in range(count))
    lines = [
        f"{parts} = Split <axis=0, num_outputs={count}> (digits)",
        "front = Constant <value_ints=[0]> ()",
        "at = Transpose <perm=[1, 0, 2]> (flat)",
        "turned_total = Transpose <perm=[1, 0]> (flat_total)",
        "deep_total = Unsqueeze (turned_total, last)",
        f"offset64 = Constant <value_int={DIGIT_OFFSET}> ()",
        "offset = Cast <to=6> (offset64)",
        "shift = Mul (deep_total, offset)",
        "base = Constant <value_float=256.0> ()",
    ]
    for d in reversed(range(count)):
        lines += _digit(d, dtype.block)
        lines += (
            [f"so_far{d} = Identity (part{d})"]
            if d == count - 1
            else [f"raised{d} = Mul (so_far{d + 1}, base)", f"so_far{d} = Add (raised{d}, part{d})"]
        )
    return [*lines, "sums = Identity (so_far0)"]


def _digit(d: int, block: int) -> list[str]:
    """part [B, M, N]: the product with digit ``d``, as float."""
    return [
        f"plain{d} = Squeeze (digit{d}, front)",
        *weight_blocks(f"plain{d}", block, str(d)),
        f"wt{d} = Transpose <perm=[1, 2, 0]> (wb{d})",
        f"raw{d} = MatMulInteger (at, wt{d})",
        f"moved{d} = Sub (raw{d}, shift)",
        f"part{d} = Cast <to=1> (moved{d})",
    ]


def looked_up(dtype: DType, groups: int) -> list[str]:
    """raw [B, M, N] = step sum_b 2^b sum_g table[m, b, g, index]."""
    bits = dtype.bits
    lines = [
        "tables = Shape <start=1, end=3> (flat)",
        f"group_tail = Constant <value_ints=[{groups}, {LUT_GROUP}]> ()",
        "rows_blocks = Shape <end=2> (wb)",
        "group_shape = Concat <axis=0> (rows_blocks, group_tail)",
        "groups = Reshape (wb, group_shape)",
        "one64 = Constant <value_int=1> ()",
        "one = Cast <to=2> (one64)",
        "place_wide = Constant <value_ints=[1, 2, 4, 8]> ()",
        "place = Cast <to=6> (place_wide)",
        "m = Shape <end=1> (flat)",
        "spread = Concat <axis=0> (m, tables, n)",
    ]
    for b in range(bits):
        lines += _plane(b)
    for b in range(1, bits):
        lines.append(f"sum{b} = Add ({'sum' if b > 1 else 'w'}{b - 1}, w{b})")
    return [
        *lines,
        f"stepped = Mul ({'sum' if bits > 1 else 'w'}{bits - 1}, step)",
        "raw = Transpose <perm=[1, 0, 2]> (stepped)",
    ]


def _plane(b: int) -> list[str]:
    return [
        f"by64_{b} = Constant <value_int={b}> ()",
        f"by{b} = Cast <to=2> (by64_{b})",
        f'moved{b} = BitShift <direction="RIGHT"> (groups, by{b})',
        f"bit{b} = BitwiseAnd (moved{b}, one)",
        f"bit_wide{b} = Cast <to=6> (bit{b})",
        f"placed{b} = Mul (bit_wide{b}, place)",
        f"index{b} = ReduceSum <keepdims=0> (placed{b}, last)",
        f"turned{b} = Transpose <perm=[1, 2, 0]> (index{b})",
        f"spread{b} = Expand (turned{b}, spread)",
        f"found{b} = GatherElements <axis=-1> (flat, spread{b})",
        f"found_wide{b} = Cast <to=6> (found{b})",
        f"two{b} = Constant <value_ints=[2]> ()",
        f"plane{b} = ReduceSum <keepdims=0> (found_wide{b}, two{b})",
        f"weight64_{b} = Constant <value_int={1 << b}> ()",
        f"weight{b} = Cast <to=6> (weight64_{b})",
        f"w{b} = Mul (plane{b}, weight{b})",
    ]


def lut_correction(dtype: DType, table8: bool) -> tuple[int, int]:
    """(a, b) in sums = raw + a total - b zero total; a constant zero is the element's offset."""
    half_range = dtype.element.step * ((1 << dtype.bits) - 1)
    return (half_range, 2) if table8 else (0, 1)


def corrected(dtype: DType, extra: int, times: int) -> list[str]:
    """sums [B, M, N] = raw + extra total - times zero total.

    The sums are exact integers. With a float zero, only raw + extra total is exact. A minimum is
    left to ``combined``: ``shift`` is what it adds.
    """
    lines = ["turned_total = Transpose <perm=[1, 0]> (flat_total)"]
    lines.append("deep_total = Unsqueeze (turned_total, last)")
    if not dtype.zero_point:
        return [*lines, *_plus("raw", extra - times * dtype.element.offset, "sums")]
    kind = 1 if dtype.float_zero else 6
    return [
        *lines,
        f"zero_rows = Cast <to={kind}> (zero)",
        *_per_block(dtype, "zero_rows", "zero_wide"),
        *_plus("raw", extra, "level"),
        f"times64 = Constant <value_int={times}> ()",
        f"times = Cast <to={kind}> (times64)",
        "zero_times = Mul (zero_wide, times)",
        f"typed_total = Cast <to={kind}> (deep_total)",
        "shift = Mul (typed_total, zero_times)",
        f"typed_level = Cast <to={kind}> (level)",
        "sums = Identity (level)" if dtype.minimum else "sums = Sub (typed_level, shift)",
    ]


def _plus(name: str, number: int, out: str) -> list[str]:
    """out = name + number * total."""
    if number == 0:
        return [f"{out} = Identity ({name})"]
    return [
        f"{out}64 = Constant <value_int={number}> ()",
        f"{out}_number = Cast <to=6> ({out}64)",
        f"{out}_shift = Mul (deep_total, {out}_number)",
        f"{out} = Add ({name}, {out}_shift)",
    ]


def _per_block(dtype: DType, name: str, out: str) -> list[str]:
    """[N, groups] -> [B or 1, 1, N]; a group of several scale blocks is repeated."""
    lines = [f"{out}_t = Transpose <perm=[1, 0]> ({name})"]
    source = f"{out}_t"
    if isinstance(dtype.group, int) and dtype.group > dtype.block:
        repeat = dtype.group // dtype.block
        lines += [
            f"{out}_deep = Unsqueeze ({source}, {out}_one)",
            f"{out}_times = Constant <value_ints=[1, {repeat}, 1]> ()",
            f"{out}_many = Expand ({out}_deep, {out}_times)",
            f"{out}_rows = Shape <start=1> ({source})",
            f"{out}_shape = Concat <axis=0> (last, {out}_rows)",
            f"{out}_long = Reshape ({out}_many, {out}_shape)",
            f"{out}_from = Constant <value_ints=[0]> ()",
            f"{out}_cut = Slice ({out}_long, {out}_from, flat_blocks, {out}_from)",
        ]
        source = f"{out}_cut"
    return [
        f"{out}_one = Constant <value_ints=[1]> ()",
        *lines,
        f"{out} = Unsqueeze ({source}, {out}_one)",
    ]


def combined(dtype: DType) -> list[str]:
    """y [..., N]: the sums of scale blocks, multiplied by both scales and added."""
    unit = dtype.levels.unit if dtype.levels else np.float32(1)
    return [
        *_wide_scale(dtype, "weight_scale", "wide_scale"),
        f"unit = Constant <value_float={float(unit)!r}> ()",
        "unit_scale = Mul (wide_scale, unit)",
        *_per_block(dtype, "unit_scale", "ws"),
        "as_t = Transpose <perm=[1, 0]> (flat_scale)",
        "as_deep = Unsqueeze (as_t, last)",
        "sums_float = Cast <to=1> (sums)",
        *_weighed(dtype),
        "products = Mul (weighed, as_deep)",
        "first = Constant <value_ints=[0]> ()",
        "flat_y = ReduceSum <keepdims=0> (products, first)",
        "out_n = Shape <start=2> (sums)",
        "out_shape = Concat <axis=0> (lead, out_n)",
        "y = Reshape (flat_y, out_shape)",
    ]


def _weighed(dtype: DType) -> list[str]:
    """weighed [B, M, N]: the sums times the weight scale, plus what a minimum adds."""
    if not dtype.minimum:
        return ["weighed = Mul (sums_float, ws)"]
    return ["scaled_sums = Mul (sums_float, ws)", "weighed = Add (scaled_sums, shift)"]
