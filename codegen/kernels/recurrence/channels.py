"""LinearRecurrence and Wkv: each channel by itself, its state in registers over all tokens."""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.float_math import Plus, exp
from ladder.codegen.kernels.recurrence.form import Form, State, floats, tokens_loop
from ladder.codegen.kernels.vector import lanes_from

NUMERATOR, DENOMINATOR, MAXIMUM = 0, 1, 2


@cache
def linear_recurrence(form: Form, tokens: int, size: int, in_place: bool) -> Any:
    """x, decay [1, tokens, size], state [1, size] -> out [1, tokens, size], state."""
    state, rows = State((1, size), in_place), (1, tokens, size)
    width, plus, loop = form.block(size, 4), form.plus, tokens_loop(tokens)
    name = state.name("linear_recurrence", f"s{tokens}")

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(state.declare([floats("x", *rows), floats("decay", *rows)], rows))
        for block in loop(size // width):
            held = T.alloc_buffer((width,), "float32")
            at, all = T.meta_var((lanes_from(block * width, width), lanes_from(0, width)))
            held[all] = args.past[0, at]
            for t in T.serial(tokens):
                held[all] = plus(args.x[0, t, at], args.decay[0, t, at], held[all], width)
                args.out[0, t, at] = held[all]
            args.present[0, at] = held[all]

    return kernel


@cache
def wkv(form: Form, tokens: int, size: int, in_place: bool) -> Any:
    """key, value [1, tokens, size], decay, first [size], state [1, 3, size] -> out, state."""
    state, rows = State((1, 3, size), in_place), (1, tokens, size)
    width, loop = form.block(size, 8, 16), tokens_loop(tokens)
    name, share = state.name("wkv", f"s{tokens}"), _share(width, form.plus)
    read = [floats("key", *rows), floats("value", *rows)]
    read += [floats("decay", size), floats("first", size)]

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(state.declare(read, rows))
        for block in loop(size // width):
            held = T.alloc_buffer((3, width), "float32")
            mixed = T.alloc_buffer((3, width), "float32")
            at, all = T.meta_var((lanes_from(block * width, width), lanes_from(0, width)))
            for part in T.unroll(3):
                held[part, all] = args.past[0, part, at]
            for t in T.serial(tokens):
                key, value = T.meta_var((args.key[0, t, at], args.value[0, t, at]))
                share(mixed, held, held[MAXIMUM, all], key + args.first[at], value)
                args.out[0, t, at] = mixed[NUMERATOR, all] / mixed[DENOMINATOR, all]
                share(held, held, held[MAXIMUM, all] + args.decay[at], key, value)
            for part in T.unroll(3):
                args.present[0, part, at] = held[part, all]

    return kernel


def _share(width: int, plus: Plus) -> Any:
    """Emits a state with a value more: the old one counts e^old, the value e^new."""

    @T.inline
    def emit(to, held, old, new, value):  # type: ignore[no-untyped-def]
        kept = T.alloc_buffer((width,), "float32")
        added = T.alloc_buffer((width,), "float32")
        most = T.alloc_buffer((width,), "float32")
        all = T.meta_var(lanes_from(0, width))
        most[all] = T.max(old, new)
        kept[all] = exp(old - most[all], width, plus)
        added[all] = exp(new - most[all], width, plus)
        old_part = T.meta_var(kept[all] * held[NUMERATOR, all])
        to[NUMERATOR, all] = plus(old_part, added[all], value, width)
        to[DENOMINATOR, all] = plus(added[all], kept[all], held[DENOMINATOR, all], width)
        to[MAXIMUM, all] = most[all]

    return emit
