"""Pieces of the bodies of the dialect's operators on activations, as lines of ONNX text."""

from __future__ import annotations

from ladder.ir.activation import BLOCK, STATIC, TENSOR
from ladder.ir.numerics import ACTIVATION_LEVELS, LUT_GROUP, SMALLEST_SCALE


def blocks(block: int, source: str = "x", to: str = "") -> list[str]:
    """``source`` [..., K] -> scale blocks [..., B, block padded to whole tables].

    ``to`` is a prefix of the new names, for bodies with several such steps.
    """
    padded = -(-block // LUT_GROUP) * LUT_GROUP
    lines = [
        f"{to}last = Constant <value_ints=[-1]> ()",
        f"{to}block = Constant <value_ints=[{block}]> ()",
        f"{to}k = Shape <start=-1> ({source})",
        f"{to}lead = Shape <end=-1> ({source})",
        f"{to}minus_k = Neg ({to}k)",
        f"{to}rest = Mod ({to}minus_k, {to}block)",
        f"{to}tail_shape = Concat <axis=0> ({to}lead, {to}rest)",
        f"{to}tail = ConstantOfShape ({to}tail_shape)",
        f"{to}whole = Concat <axis=-1> ({source}, {to}tail)",
        f"{to}block_shape = Concat <axis=0> ({to}lead, {to}last, {to}block)",
    ]
    if padded == block:
        return [*lines, f"{to}blocks = Reshape ({to}whole, {to}block_shape)"]
    return [
        *lines,
        f"{to}ragged = Reshape ({to}whole, {to}block_shape)",
        f"{to}ragged_lead = Shape <end=-1> ({to}ragged)",
        f"{to}extra = Constant <value_ints=[{padded - block}]> ()",
        f"{to}fill_shape = Concat <axis=0> ({to}ragged_lead, {to}extra)",
        f"{to}fill = ConstantOfShape ({to}fill_shape)",
        f"{to}blocks = Concat <axis=-1> ({to}ragged, {to}fill)",
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


def largest(granularity: str) -> list[str]:
    """amax of size [..., B, block], with all axes: [..., B, 1], [..., 1, 1] or [1, ..., 1]."""
    if granularity == TENSOR:
        return ["amax = ReduceMax <keepdims=1> (size)"]
    if granularity == BLOCK:
        return ["amax = ReduceMax <keepdims=1> (size, last)"]
    return [
        "two_last = Constant <value_ints=[-2, -1]> ()",
        "amax = ReduceMax <keepdims=1> (size, two_last)",
    ]


def scale_of_blocks(granularity: str) -> list[str]:
    """scale [..., B] from kept, the scale before it is repeated for every scale block."""
    if granularity == BLOCK:
        return ["scale = Squeeze (kept, last)"]
    one = "Identity (kept)" if granularity == STATIC else "Squeeze (kept, last)"
    return [
        f"one_scale = {one}",
        "scale_shape = Shape (total)",
        "scale = Expand (one_scale, scale_shape)",
    ]


def scale_and_inverse(bits: int, static: bool = False) -> list[str]:
    """kept and inverse from amax and the largest code, or from the operand ``static`` [1]."""
    raw = [
        f"levels = Constant <value_float={float(ACTIVATION_LEVELS[bits])}> ()",
        f"raw_scale = {'Identity (static)' if static else 'Div (amax, levels)'}",
    ]
    return [
        *raw,
        f"smallest = Constant <value_float={float(SMALLEST_SCALE):.40f}> ()",
        "live = GreaterOrEqual (raw_scale, smallest)",
        "one = Constant <value_float=1.0> ()",
        "none = Constant <value_float=0.0> ()",
        "safe = Where (live, raw_scale, one)",
        "reciprocal = Div (one, safe)",
        "inverse = Where (live, reciprocal, none)",
        "kept = Where (live, raw_scale, none)",
    ]


def clipped(name: str, out: str, limit: str = "levels") -> list[str]:
    """Values clipped to ``limit``, for a static scale."""
    return [
        f"{out}_low = Neg ({limit})",
        f"{out}_below = Min ({name}, {limit})",
        f"{out} = Max ({out}_below, {out}_low)",
    ]


def signed_sums() -> list[str]:
    lines = []
    for j in range(LUT_GROUP):
        signs = ", ".join("1.0" if i >> j & 1 else "-1.0" for i in range(16))
        lines += [f"sign{j} = Constant <value_floats=[{signs}]> ()", f"p{j} = Mul (a{j}, sign{j})"]
    return [*lines, "t1 = Add (p0, p1)", "t2 = Add (t1, p2)", "t3 = Add (t2, p3)"]
