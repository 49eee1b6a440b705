"""ONNX Attention, and what language models do to its keys: from operators to kernels.

Every form of Attention becomes one kernel (``kernels.attention``), after inputs of three dimensions
are split into heads, and past keys and values are put before the new ones. What has no kernel is
refused by name: Attention of ONNX is not the operator of the same name that TVM converts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tvm import relax

from ladder.codegen.context import Attributes, Context, no_kernel, shape_of
from ladder.codegen.indices import with_checked_indices
from ladder.codegen.kernels import cache_rows
from ladder.codegen.kernels.attention import Form
from ladder.codegen.kernels.attention_tiles import attention
from ladder.hardware.targets import PORTABLE

NARROW = ("float16", "bfloat16")  # computed in float32
CODES = "int8"  # of keys and values; their scales are two more inputs (``fusion``)
WINDOWS = ("left_window_size", "right_window_size")


def rotary_embedding(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """ONNX RotaryEmbedding without position ids, whole head rotated in halves."""
    x, cos, sin, *_rest = [*inputs]
    shape = shape_of(x)
    plain = not attrs.get("interleaved", 0) and not attrs.get("rotary_embedding_dim", 0)
    if len(shape) != 4 or shape[0] != 1 or not plain or len(shape_of(cos)) != 3:
        raise no_kernel("RotaryEmbedding with position ids, interleaved or partial,")
    return context.call(
        cache_rows.rotary(shape[1], shape[2], shape[3]), [x, cos, sin], [(shape, "float32")]
    )


def tensor_scatter(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """The cache is written in place, so it must be an input of the graph and one of its states."""
    cache, rows = inputs[:2]
    (_b, heads, c, d), s = shape_of(cache), shape_of(rows)[2]
    if attrs.get("axis", -2) not in (-2, 2) or _b != 1:
        raise no_kernel("TensorScatter in batches, or on an axis other than the second to last,")
    if isinstance(cache, relax.DataflowVar):
        raise no_kernel("TensorScatter into a computed value")
    ring = attrs.get("mode", b"linear") == b"circular"
    start = inputs[2] if ring else with_checked_indices(context, "TensorScatter", inputs, attrs)[2]
    func = cache_rows.scatter(heads, s, c, d, cache.ty.dtype.dtype, ring)
    return context.call_in_place(func, [cache, rows, start], 0)


def attention_op(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """The output, and where they are asked for, the keys and values with those of the past."""
    for refused, reason in attention_limits(inputs, attrs):
        if refused:
            raise no_kernel(f"Attention {reason}")
    q, keys, values, mask, past_keys, past_values, lengths, *scales = _operands(inputs)
    split = len(shape_of(q)) == 3
    if split:
        q = _in_heads(context, q, int(attrs["q_num_heads"]))
        keys, values = (_in_heads(context, x, int(attrs["kv_num_heads"])) for x in (keys, values))
    keys = _after(context, past_keys, keys)
    values = _after(context, past_values, values)
    past = 0 if past_keys is None else shape_of(past_keys)[2]
    form = _form(shape_of(q), shape_of(keys), shape_of(values), attrs, past)
    operands = [_float32(context, q), *_stored(context, keys, values)]
    form = replace(form, stored=operands[1].ty.dtype.dtype, widening=context.family != PORTABLE)
    if mask is not None:
        mask = _four_axes(context, mask)
        form = replace(form, mask=shape_of(mask), mask_type=mask.ty.dtype.dtype)
    form = replace(form, lengths=lengths is not None)
    operands += [x for x in (mask, lengths, *scales) if x is not None]
    rows = (form.batch, form.heads, form.s, form.dv)
    out = context.call(attention(form), operands, [(rows, "float32")])
    if q.ty.dtype.dtype in NARROW:
        out = context.builder.emit(relax.op.astype(out, q.ty.dtype.dtype))
    if split:
        out = _whole_rows(context, out)
    several = attrs.get("tvm_custom", {}).get("num_outputs", 1) > 1
    return relax.Tuple([out, keys, values]) if several else out


def attention_limits(inputs: list[Any], attrs: Attributes) -> Iterator[tuple[bool, str]]:
    """What no form of the kernel has, in the order in which it can be looked at."""
    q, keys, values, mask, past_keys, past_values, lengths, *_scales = _operands(inputs)
    rank = len(shape_of(q))
    yield rank not in (3, 4), f"of inputs with {rank} dimensions"
    yield (
        rank == 3 and not (attrs.get("q_num_heads") and attrs.get("kv_num_heads")),
        ("of inputs with 3 dimensions, without q_num_heads and kv_num_heads,"),
    )
    for x in (q, keys, values):
        yield x.ty.dtype.dtype not in ("float32", *NARROW, CODES), f"of {x.ty.dtype.dtype}"
    yield (past_keys is None) != (past_values is None), "with past keys or values, but not both,"
    yield past_keys is not None and lengths is not None, "with past keys and their lengths"
    heads = attrs["q_num_heads"] if rank == 3 else shape_of(q)[1]
    shared = attrs["kv_num_heads"] if rank == 3 else shape_of(keys)[1]
    yield heads % shared != 0, "with heads that do not share keys evenly"
    for name in WINDOWS:
        yield attrs.get(name, -1) != -1, f"with {name}"
    if mask is not None:
        kind = mask.ty.dtype.dtype
        yield kind not in ("bool", "float32", *NARROW), f"with a mask of {kind}"


def _form(
    q: tuple[int, ...], keys: tuple[int, ...], values: tuple[int, ...], attrs: Attributes, past: int
) -> Form:
    """The form without a mask and lengths, for four dimensions each."""
    batch, heads, s, d = q
    return Form(
        batch, heads, keys[1], s, keys[2], d, values[3],
        scale=float(attrs.get("scale", d**-0.5)),
        softcap=float(attrs.get("softcap", 0)),
        past=past if attrs.get("is_causal", 0) else None,
    )  # fmt: skip


def _in_heads(context: Context, x: Any, heads: int) -> Any:
    """x [B, S, heads * D] as [B, heads, S, D]."""
    batch, s, size = shape_of(x)
    apart = context.reshape(x, (batch, s, heads, size // heads))
    return context.transposed(apart, (0, 2, 1, 3))


def _whole_rows(context: Context, x: Any) -> Any:
    """x [B, heads, S, D] as [B, S, heads * D]."""
    batch, heads, s, size = shape_of(x)
    return context.reshape(context.transposed(x, (0, 2, 1, 3)), (batch, s, heads * size))


def _after(context: Context, past: Any, rows: Any) -> Any:
    """Rows after those of the past, if there are any."""
    if past is None or shape_of(past)[2] == 0:
        return rows
    return context.builder.emit(relax.op.concat([past, rows], axis=2))


def _operands(inputs: list[Any]) -> tuple[Any, ...]:
    """All inputs that there can be, None for those that are missing."""
    return (*inputs, *[None] * 6)[:9]


def _stored(context: Context, keys: Any, values: Any) -> list[Any]:
    """Keys and values in a type that the kernel reads, the same for both."""
    kinds = {x.ty.dtype.dtype for x in (keys, values)}
    known = len(kinds) == 1 and kinds <= {"float16", CODES}
    return [keys, values] if known else [_float32(context, x) for x in (keys, values)]


def _float32(context: Context, x: Any) -> Any:
    if x.ty.dtype.dtype not in NARROW:
        return x
    return context.builder.emit(relax.op.astype(x, "float32"))


def _four_axes(context: Context, mask: Any) -> Any:
    """A mask with its missing axes as sizes of 1."""
    shape = shape_of(mask)
    return _float32(context, context.reshape(mask, (*[1] * (4 - len(shape)), *shape)))
