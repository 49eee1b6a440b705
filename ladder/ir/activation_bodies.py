"""Pieces of the bodies of the dialect's operators on activations, as lines of ONNX text."""

from __future__ import annotations

from ladder.ir.numerics import ACTIVATION_LEVELS, LUT_GROUP, SMALLEST_SCALE


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


def largest(per_token: bool) -> list[str]:
    """amax of size [..., B, block]: [..., B, 1], or [..., 1, 1] for a whole token."""
    if not per_token:
        return ["amax = ReduceMax <keepdims=1> (size, last)"]
    return [
        "two_last = Constant <value_ints=[-2, -1]> ()",
        "amax = ReduceMax <keepdims=1> (size, two_last)",
    ]


def scale_of_blocks(per_token: bool) -> list[str]:
    """scale [..., B] from kept [..., B or 1, 1]."""
    if not per_token:
        return ["scale = Squeeze (kept, last)"]
    return [
        "one_scale = Squeeze (kept, last)",
        "scale_shape = Shape (total)",
        "scale = Expand (one_scale, scale_shape)",
    ]


def scale_and_inverse(bits: int) -> list[str]:
    return [
        f"levels = Constant <value_float={float(ACTIVATION_LEVELS[bits])}> ()",
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
