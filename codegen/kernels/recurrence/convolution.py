"""CausalConvWithState: each channel is convolved with its own past."""

from __future__ import annotations

from functools import cache
from math import gcd
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.float_math import Plus, sigmoid
from ladder.codegen.kernels.recurrence.form import Form, State, flat, floats
from ladder.codegen.kernels.vector import Expr, const, lanes_from, shuffle
from ladder.codegen.layout import LANES


@cache
def causal_conv(
    form: Form, tokens: int, channels: int, taps: int, bias: bool, silu: bool, in_place: bool
) -> Any:
    """x [1, channels, tokens], weight [channels, 1, taps], bias [channels], state [1, channels,
    taps - 1] -> out [1, channels, tokens], state.
    """
    state = State((1, channels, taps - 1), in_place)
    ends = ("bias" if bias else "", "silu" if silu else "")
    name = state.name("causal_conv", f"k{taps}", f"s{tokens}", *filter(None, ends))
    read = [floats("x", 1, channels, tokens), floats("weight", channels, 1, taps)]
    read += [floats("bias", channels, when=bias)]
    step = _one_token(channels, taps, bias, silu, form.plus)
    many = _many_tokens(tokens, taps, bias, silu, form.plus)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(state.declare(read, (1, channels, tokens)))
        if tokens == 1:
            step(args)
        else:
            for channel in T.parallel(channels):
                many(args, channel)

    return kernel


def _finished(sums: Expr, bias: Expr | None, silu: bool, plus: Plus, width: int) -> Expr:
    y = sums if bias is None else sums + bias
    return y * sigmoid(y, width, plus) if silu else y


def _many_tokens(tokens: int, taps: int, bias: bool, silu: bool, plus: Plus) -> Any:
    """Emits one channel: its past and its inputs are brought together first."""
    whole, rest, past = tokens // LANES, tokens % LANES, taps - 1

    def result(args: Any, inputs: Any, channel: Expr, start: Expr, width: int) -> Expr:
        weights = [const(args.weight[channel, 0, tap], width) for tap in range(taps)]
        y = inputs[lanes_from(start, width)] * weights[0]
        for tap in range(1, taps):
            y = plus(y, inputs[lanes_from(start + tap, width)], weights[tap], width)
        added = const(args.bias[channel], width) if bias else None
        return _finished(y, added, silu, plus, width)

    @T.inline
    def emit(args, channel):  # type: ignore[no-untyped-def]
        inputs = T.alloc_buffer((past + tokens,), "float32")
        for i in T.serial(past):
            inputs[i] = args.past[0, channel, i]
        for i in T.serial(tokens):
            inputs[past + i] = args.x[0, channel, i]
        for i in T.serial(whole):
            at = T.meta_var(i * LANES)
            args.out[0, channel, lanes_from(at, LANES)] = result(args, inputs, channel, at, LANES)
        for i in T.serial(rest):
            args.out[0, channel, whole * LANES + i] = result(
                args, inputs, channel, whole * LANES + i, 1
            )
        for i in T.serial(past):
            args.present[0, channel, i] = inputs[tokens + i]

    return emit


def _one_token(channels: int, taps: int, bias: bool, silu: bool, plus: Plus) -> Any:
    """Emits one token of all channels: taps lie next to each other, so they are shuffled apart."""
    width, past = gcd(channels, LANES), taps - 1

    def tap(buffer: Any, start: Expr, stride: int, which: int) -> Expr:
        """Every ``stride``-th of ``width * stride`` floats from ``start`` on."""
        if width == 1:
            return buffer[start + which]
        vectors = [buffer[lanes_from(start + v * width, width)] for v in range(stride)]
        return shuffle(vectors, [channel * stride + which for channel in range(width)])

    def result(args: Any, held: Any, block: Expr) -> Expr:
        at, weight = lanes_from(block * width, width), flat(args.weight)
        inputs = [tap(held, 0, past, i) for i in range(past)] + [flat(args.x)[at]]
        weights = [tap(weight, block * width * taps, taps, i) for i in range(taps)]
        y = inputs[0] * weights[0]
        for value, factor in zip(inputs[1:], weights[1:], strict=True):
            y = plus(y, value, factor, width)
        return _finished(y, args.bias[at] if bias else None, silu, plus, width)

    def moved(args: Any, held: Any, block: Expr, v: int) -> Expr:
        """Vector v of the state after the token: the oldest input of each channel is dropped."""
        if width == 1:
            return held[v + 1] if v + 1 < past else flat(args.x)[block]
        newest = flat(args.x)[lanes_from(block * width, width)]
        vectors = [held[lanes_from(i * width, width)] for i in range(past)] + [newest]
        places = [divmod(i, past) for i in range(v * width, (v + 1) * width)]
        kept = [channel * past + i + 1 for channel, i in places]
        new = [past * width + channel for channel, _ in places]
        last = [i == past - 1 for _, i in places]
        return shuffle(
            vectors, [n if end else k for k, n, end in zip(kept, new, last, strict=True)]
        )

    def emit(args: Any) -> None:
        with T.serial(channels // width) as block:
            held = T.alloc_buffer((past * width,), "float32")
            first = block * width * past
            for v in range(past):
                before = flat(args.past)[lanes_from(first + v * width, width)]
                T.buffer_store(held, before, [lanes_from(v * width, width)])
            out = lanes_from(block * width, width)
            T.buffer_store(flat(args.out), result(args, held, block), [out])
            for v in range(past):
                at = lanes_from(first + v * width, width)
                T.buffer_store(flat(args.present), moved(args, held, block, v), [at])

    return emit
