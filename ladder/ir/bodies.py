"""Pieces of the bodies of the dialect's functions, as lines of ONNX text."""

from __future__ import annotations

from ladder.ir.dtype import DType
from ladder.ir.numerics import LUT_GROUP, SMALLEST_SCALE


def blocks(block: int) -> list[str]:
    """x [..., K] -> blocks [..., B, block padded to whole tables]."""
    padded = -(-block // LUT_GROUP) * LUT_GROUP
    lines = [
        "last = Constant <value_ints=[-1]> ()",
        f"block = Constant <value_ints=[{block}]> ()",
        "k = Shape <start=-1> (x)",
        "lead = Shape <end=-1> (x)",
        "minus_k = Neg (k)",
        "rest = Mod (minus_k, block)",
        "tail_shape = Concat <axis=0> (lead, rest)",
        "tail = ConstantOfShape (tail_shape)",
        "whole = Concat <axis=-1> (x, tail)",
        "block_shape = Concat <axis=0> (lead, last, block)",
    ]
    if padded == block:
        return [*lines, "blocks = Reshape (whole, block_shape)"]
    return [
        *lines,
        "ragged = Reshape (whole, block_shape)",
        "ragged_lead = Shape <end=-1> (ragged)",
        f"extra = Constant <value_ints=[{padded - block}]> ()",
        "fill_shape = Concat <axis=0> (ragged_lead, extra)",
        "fill = ConstantOfShape (fill_shape)",
        "blocks = Concat <axis=-1> (ragged, fill)",
    ]


def grouped(name: str, block: int) -> list[str]:
    groups = -(-block // LUT_GROUP)
    return [
        f"group_lead = Shape <end=-1> ({name})",
        f"group_tail = Constant <value_ints=[{groups}, {LUT_GROUP}]> ()",
        "group_shape = Concat <axis=0> (group_lead, group_tail)",
        f"groups = Reshape ({name}, group_shape)",
    ]


def split(prefix: str, name: str) -> list[str]:
    names = ", ".join(f"{prefix}{j}" for j in range(LUT_GROUP))
    return [f"{names} = Split <axis=-1, num_outputs={LUT_GROUP}> ({name})"]


def scale_and_inverse() -> list[str]:
    return [
        "levels = Constant <value_float=127.0> ()",
        "raw_scale = Div (amax, levels)",
        f"smallest = Constant <value_float={float(SMALLEST_SCALE):.40f}> ()",
        "live = GreaterOrEqual (raw_scale, smallest)",
        "one = Constant <value_float=1.0> ()",
        "none = Constant <value_float=0.0> ()",
        "safe = Where (live, raw_scale, one)",
        "reciprocal = Div (one, safe)",
        "inverse = Where (live, reciprocal, none)",
        "kept = Where (live, raw_scale, none)",
    ]


def signed_sums() -> list[str]:
    lines = []
    for j in range(LUT_GROUP):
        signs = ", ".join("1.0" if i >> j & 1 else "-1.0" for i in range(16))
        lines += [f"sign{j} = Constant <value_floats=[{signs}]> ()", f"p{j} = Mul (a{j}, sign{j})"]
    return [*lines, "t1 = Add (p0, p1)", "t2 = Add (t1, p2)", "t3 = Add (t2, p3)"]


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


def weight_blocks(name: str, block: int) -> list[str]:
    """codes [N, K] -> wb [N, B, block padded to whole tables]."""
    padded = -(-block // LUT_GROUP) * LUT_GROUP
    return [
        f"block = Constant <value_ints=[{block}]> ()",
        "n = Shape <end=1> (codes)",
        "k = Shape <start=1> (codes)",
        "minus_k = Neg (k)",
        "rest = Mod (minus_k, block)",
        "three_zeros = Constant <value_ints=[0, 0, 0]> ()",
        "pads = Concat <axis=0> (three_zeros, rest)",
        f"whole = Pad ({name}, pads)",
        "block_shape = Concat <axis=0> (n, last, block)",
        "ragged = Reshape (whole, block_shape)",
        f"fill = Constant <value_ints=[0, 0, 0, 0, 0, {padded - block}]> ()",
        "wb = Pad (ragged, fill)",
    ]


def unsigned_codes(dtype: DType) -> list[str]:
    return [
        "wide_codes = Cast <to=6> (codes)",
        f"offset64 = Constant <value_int={dtype.element.offset}> ()",
        "offset = Cast <to=6> (offset64)",
        "shifted = Add (wide_codes, offset)",
        "u = Cast <to=2> (shifted)",
    ]


def looked_up(bits: int, groups: int) -> list[str]:
    """raw [B, M, N] = sum_b 2^b sum_g table[m, b, g, index]."""
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
    return [*lines, f"raw = Transpose <perm=[1, 0, 2]> ({'sum' if bits > 1 else 'w'}{bits - 1})"]


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


def lut_correction(dtype: DType, mode: str) -> tuple[str, ...]:
    """Name of the multiplier of ``total`` to subtract, after the lines that make it."""
    half_range = (1 << dtype.bits) - 1
    if mode == "int8":
        return ("zero_wide",) if dtype.zero_point else ("", str(dtype.element.offset))
    if dtype.zero_point:
        return ("zero_table", str(half_range))
    return ("", str(2 * dtype.element.offset - half_range))


def corrected(dtype: DType, name: str, number: str = "") -> list[str]:
    """sums [B, M, N] = raw - zero * total."""
    lines = ["turned_total = Transpose <perm=[1, 0]> (flat_total)"]
    lines.append("deep_total = Unsqueeze (turned_total, last)")
    if dtype.zero_point:
        lines += ["zero_rows = Cast <to=6> (zero)", *_per_block(dtype, "zero_rows", "zero_wide")]
    elif not number:
        return [*lines, "sums = Identity (raw)"]
    if name == "zero_table":
        lines += [
            "two64 = Constant <value_int=2> ()",
            "two = Cast <to=6> (two64)",
            "doubled = Mul (zero_wide, two)",
            f"range64 = Constant <value_int={number}> ()",
            "range = Cast <to=6> (range64)",
            "zero_table = Sub (doubled, range)",
        ]
    if not name:
        name = "zero_number"
        lines += [
            f"zero64 = Constant <value_int={number}> ()",
            "zero_number = Cast <to=6> (zero64)",
        ]
    return [*lines, f"shift = Mul (deep_total, {name})", "sums = Sub (raw, shift)"]


def _per_block(dtype: DType, name: str, out: str) -> list[str]:
    """[N, groups] -> [B or 1, 1, N], groups wider than a block repeated."""
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
    return [
        *_per_block(dtype, "weight_scale", "ws"),
        "as_t = Transpose <perm=[1, 0]> (flat_scale)",
        "as_deep = Unsqueeze (as_t, last)",
        "sums_float = Cast <to=1> (sums)",
        "weighed = Mul (sums_float, ws)",
        "products = Mul (weighed, as_deep)",
        "first = Constant <value_ints=[0]> ()",
        "flat_y = ReduceSum <keepdims=0> (products, first)",
        "out_n = Shape <end=1> (codes)",
        "out_shape = Concat <axis=0> (lead, out_n)",
        "y = Reshape (flat_y, out_shape)",
    ]
