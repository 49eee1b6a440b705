"""SelectiveScan (Mamba 1): a few channels at a time, their states in registers over all tokens."""

from __future__ import annotations

from functools import cache
from math import gcd
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.float_math import exp, sums_of
from ladder.codegen.kernels.recurrence.form import Form, State, floats
from ladder.codegen.kernels.vector import Expr, const, lanes_from

CHANNELS = 4  # whose sums over N are made together


@cache
def selective_scan(form: Form, tokens: int, size: int, states: int, in_place: bool) -> Any:
    """x, dt [1, tokens, size], a [size, states], b, c [1, tokens, states], state [1, size, states]
    -> out [1, tokens, size], state.
    """
    state, rows, columns = (
        State((1, size, states), in_place),
        (1, tokens, size),
        (1, tokens, states),
    )
    width, plus = gcd(states, 16), form.plus
    group, vectors = gcd(size, CHANNELS) if width >= CHANNELS else 1, states // width
    name = state.name("selective_scan", f"s{tokens}")
    read = [floats("x", *rows), floats("dt", *rows), floats("a", size, states)]
    read += [floats("b", *columns), floats("c", *columns)]

    def summed(parts: Any) -> Expr:
        sums = [parts[channel, lanes_from(0, width)] for channel in range(group)]
        return sums_of(sums) if width > 1 else sums[0]

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(state.declare(read, rows))
        for block in T.parallel(size // group):
            held = T.alloc_buffer((group, states), "float32")
            parts = T.alloc_buffer((group, width), "float32")
            first = T.meta_var(block * group)
            for channel in T.unroll(group):
                for v in T.unroll(vectors):
                    at = T.meta_var(lanes_from(v * width, width))
                    held[channel, at] = args.past[0, first + channel, at]
            for t in T.serial(tokens):
                for channel in T.unroll(group):
                    d, all = T.meta_var((first + channel, lanes_from(0, width)))
                    step = T.meta_var(args.dt[0, t, d])
                    parts[channel, all] = const(T.float32(0), width)
                    for v in T.unroll(vectors):
                        at = T.meta_var(lanes_from(v * width, width))
                        kept = T.meta_var(exp(const(step, width) * args.a[d, at], width, plus))
                        new = T.meta_var(const(step * args.x[0, t, d], width) * args.b[0, t, at])
                        held[channel, at] = plus(new, kept, held[channel, at], width)
                        parts[channel, all] = plus(
                            parts[channel, all], held[channel, at], args.c[0, t, at], width
                        )
                args.out[0, t, lanes_from(first, group)] = summed(parts)
            for channel in T.unroll(group):
                for v in T.unroll(vectors):
                    at = T.meta_var(lanes_from(v * width, width))
                    args.present[0, first + channel, at] = held[channel, at]

    return kernel
