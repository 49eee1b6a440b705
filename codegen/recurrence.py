"""Recurrent operators (``ladder.ir.recurrence``): from operators to kernels, states in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
from tvm import relax, tirx

from ladder.codegen.context import Attributes, Context, no_kernel, shape_of
from ladder.codegen.kernels.recurrence import channels, convolution, selective_scan
from ladder.codegen.kernels.recurrence.form import FORMS
from ladder.codegen.kernels.recurrence.linear_attention import linear_attention
from ladder.codegen.kernels.recurrence.token_block import BY_HEAD, BY_KEY, Rule, Sizes
from ladder.ir.recurrence import CORRECTS, DECAYS, SILU
from ladder.ir.recurrence_bodies import body
from ladder.ir.states import next_name

IN_PLACE = "in_place"
Make = Callable[[bool], tirx.PrimFunc]


def changed_in_place(node: ir.Node) -> bool:
    """Whether a recurrent operator may write the state after it over the state before it.

    That is a state of the model, which nothing else reads, and whose output is that of the node.
    """
    past = node.inputs[body(node.op_type, node.overload).inputs.index("state")]
    present = node.outputs[1]
    if past is None or past.name is None or not past.is_graph_input():
        return False
    if len(past.uses()) != 1 or past.is_graph_output():
        return False
    return present.is_graph_output() and present.name == next_name(past.name)


def causal_conv(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    """A convolution of each channel with its past."""
    x, weight, bias, past = inputs
    (_b, size, tokens), taps = shape_of(x), shape_of(weight)[2]
    if taps < 2:
        raise no_kernel("CausalConvWithState with a weight of one tap")
    form = FORMS[context.family]

    def make(in_place: bool) -> tirx.PrimFunc:
        with_bias, silu = bias is not None, overload == SILU
        return convolution.causal_conv(form, tokens, size, taps, with_bias, silu, in_place)

    return _call(context, "CausalConvWithState", make, [x, weight, bias], past, attrs, x)


def scan(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """SelectiveScan."""
    *read, past = inputs
    (_b, tokens, size), states = shape_of(read[0]), shape_of(past)[2]
    form = FORMS[context.family]

    def make(in_place: bool) -> tirx.PrimFunc:
        return selective_scan.selective_scan(form, tokens, size, states, in_place)

    return _call(context, "SelectiveScan", make, read, past, attrs, read[0])


def attention(context: Context, inputs: list[Any], attrs: Attributes, overload: str) -> Any:
    """LinearAttention; operands that its rule does not use are absent."""
    query, key, value, past, decay, beta = (*inputs, None, None)[:6]
    tokens, (_b, heads, keys, values) = shape_of(query)[1], shape_of(past)
    decay = decay if overload in DECAYS else None
    rule = Rule(_decay_of(decay, heads, keys), overload in CORRECTS)
    sizes = Sizes(tokens, int(attrs["q_num_heads"]), heads, keys, values)

    def make(in_place: bool) -> tirx.PrimFunc:
        return linear_attention(FORMS[context.family], rule, sizes, float(attrs["scale"]), in_place)

    read = [query, key, value, decay, beta if rule.corrects else None]
    out = (1, tokens, sizes.query_heads * values)
    return _call(context, "LinearAttention", make, read, past, attrs, out)


def _decay_of(decay: Any, heads: int, keys: int) -> str:
    """What a decay [1, S, ...] belongs to."""
    if decay is None:
        return ""
    return BY_HEAD if shape_of(decay)[2] == heads else BY_KEY


def recurrence(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """LinearRecurrence."""
    *read, past = inputs
    _b, tokens, size = shape_of(read[0])

    def make(in_place: bool) -> tirx.PrimFunc:
        return channels.linear_recurrence(FORMS[context.family], tokens, size, in_place)

    return _call(context, "LinearRecurrence", make, read, past, attrs, read[0])


def wkv(context: Context, inputs: list[Any], attrs: Attributes, _: str) -> Any:
    """Wkv of RWKV 4."""
    *read, past = inputs
    _b, tokens, size = shape_of(read[0])

    def make(in_place: bool) -> tirx.PrimFunc:
        return channels.wkv(FORMS[context.family], tokens, size, in_place)

    return _call(context, "Wkv", make, read, past, attrs, read[0])


def _call(
    context: Context, op: str, make: Make, read: list[Any], past: Any, attrs: Attributes, out: Any
) -> Any:
    """Emit the kernel: (output of shape ``out`` or like ``out``, state)."""
    operands = [x for x in (*read, past) if x is not None]
    kinds = {x.ty.dtype.dtype for x in operands}
    if kinds != {"float32"}:
        raise no_kernel(f"{op} of {', '.join(sorted(kinds - {'float32'}))}")
    if shape_of(past)[0] != 1:
        raise no_kernel(f"{op} of {shape_of(past)[0]} sequences at once")
    shape = out if isinstance(out, tuple) else shape_of(out)
    func = make(bool(attrs.get(IN_PLACE, 0)))
    made = context.call_on_state(func, operands, shape, in_place=bool(attrs.get(IN_PLACE, 0)))
    return relax.Tuple([context.builder.emit(relax.TupleGetItem(made, i)) for i in range(2)])


CONVERTERS = {
    "ladder.CausalConvWithState": causal_conv,
    "ladder.SelectiveScan": scan,
    "ladder.LinearAttention": attention,
    "ladder.LinearRecurrence": recurrence,
    "ladder.Wkv": wkv,
}
