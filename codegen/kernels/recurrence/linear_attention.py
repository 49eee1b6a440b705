"""LinearAttention: a head's memory is read and changed a few columns at a time.

Columns of the memory [keys, values] do not depend on each other. A block of them stays in the first
cache for all tokens, and each block of tokens passes over it once or twice (``token_block``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.parameters import Arguments
from ladder.codegen.kernels.recurrence.form import Form, State, floats
from ladder.codegen.kernels.recurrence.memory import Place
from ladder.codegen.kernels.recurrence.step import Columns
from ladder.codegen.kernels.recurrence.token_block import (
    BY_KEY,
    Plan,
    Rule,
    Scalars,
    Sizes,
    TokenBlock,
    put_scalars,
)
from ladder.codegen.kernels.vector import Expr

UNITS = 16  # pieces of work for threads, if the heads are fewer


@cache
def linear_attention(form: Form, rule: Rule, sizes: Sizes, scale: float, in_place: bool) -> Any:
    """query [1, tokens, query heads * keys], key, value, decay, beta, memory [1, heads, keys,
    values] -> out [1, tokens, query heads * values], memory.
    """
    heads, keys = sizes.heads, sizes.keys
    state = State((1, heads, keys, sizes.values), in_place)
    decays = heads * keys if rule.decay == BY_KEY else heads
    read = [
        floats("query", 1, sizes.tokens, sizes.query_heads * keys),
        floats("key", 1, sizes.tokens, heads * keys),
        floats("value", 1, sizes.tokens, heads * sizes.values),
        floats("decay", 1, sizes.tokens, decays, when=bool(rule.decay)),
        floats("beta", 1, sizes.tokens, heads, when=rule.corrects),
    ]
    out = (1, sizes.tokens, sizes.query_heads * sizes.values)
    name = _name(state, rule, sizes, scale)
    plan = Plan(form, rule, sizes, scale)
    columns = form.block(sizes.values, 2 * plan.tokens_of_block, 128)
    splits = _splits(heads, sizes.values // columns)
    scan = _scan(plan, columns)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(state.declare(read, out))
        for unit in T.parallel(heads * splits):
            scan(args, unit // splits, unit % splits, splits)

    return kernel


def _name(state: State, rule: Rule, sizes: Sizes, scale: float) -> str:
    queries = f"q{sizes.query_heads}" * (sizes.group > 1)
    options = filter(None, (str(rule), queries, f"x{scale}" * (scale != 1)))
    return state.name("linear_attention", f"s{sizes.tokens}", *options)


def _splits(heads: int, blocks: int) -> int:
    """Into how many pieces of work the blocks of columns of a head are divided."""
    able = [n for n in range(1, blocks + 1) if blocks % n == 0]
    return next((n for n in able if heads * n >= UNITS), blocks)


def _scan(plan: Plan, columns: int) -> Any:
    """Emits the scan over all tokens of one head and a part of its columns."""
    sizes, size = plan.sizes, plan.tokens_of_block
    whole, rest = divmod(sizes.tokens, size)
    blocks = whole + rest

    def over_blocks(emit: Callable[[TokenBlock], None]) -> None:
        with T.serial(whole) as i:
            emit(TokenBlock(size, i * size, i))
        if rest:
            with T.serial(rest) as i:
                emit(TokenBlock(1, whole * size + i, whole + i))

    def emit(args: Arguments, head: Expr, part: Expr, splits: int) -> None:
        scalars = Scalars.allocate(blocks, sizes.group, size)
        over_blocks(lambda block: put_scalars(plan, args, head, scalars, block))
        count = sizes.values // columns // splits
        with T.serial(count) as i:
            place = Place(head, (part * count + i) * columns, columns)
            with place.memory(args, sizes.keys, in_cache=blocks > 1) as memory:
                over_blocks(Columns(plan, args, place, scalars, memory, blocks == 1).emit)

    return emit
