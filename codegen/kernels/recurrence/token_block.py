"""How the tokens of a block of LinearAttention depend on each other: scalars for each head.

A block of T tokens reads a head's memory once. For the tokens s <= t of a block that begins with
the memory M, the stored vectors n and the factors g by which a token fades the memory:

    fade(s, t) = g(s+1) ... g(t),    gain(t) = g(0) ... g(t),    last(s) = fade(s, T - 1)
    known(t) = gain(t) k(t) M + sum over s < t  of  fade(s, t) (k(t) . k(s)) n(s)
    y(t)     = scale (gain(t) q(t) M + sum over s <= t of  fade(s, t) (q(t) . k(s)) n(s))
    M        = gain(T - 1) M + sum over s of  last(s) k(s) n(s)

So a block needs one pass over M where every token would need its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import gcd
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.float_math import exp, sums_of
from ladder.codegen.kernels.parameters import Arguments
from ladder.codegen.kernels.recurrence.form import Form
from ladder.codegen.kernels.vector import Expr, const, lanes_from

BLOCK = 4  # tokens; the same for all processors, since the order of sums depends on it
BY_HEAD, BY_KEY = "head", "key"


@dataclass(frozen=True)
class Rule:
    """How a token changes the memory: what ``decay`` belongs to, if there is one; whether it stores
    only what its key does not recall yet (``beta``)."""

    decay: str
    corrects: bool

    @property
    def block(self) -> int:
        """The most tokens of a block. Decay by key would need an exponential for each pair."""
        return 1 if self.decay == BY_KEY else BLOCK

    def __str__(self) -> str:
        return "_".join(filter(None, (f"decay_by_{self.decay}" * bool(self.decay), self._delta)))

    @property
    def _delta(self) -> str:
        return "delta" if self.corrects else ""


@dataclass(frozen=True)
class Sizes:
    """The shape of a call: ``heads`` memories of [keys, values], each for several query heads."""

    tokens: int
    query_heads: int
    heads: int
    keys: int
    values: int

    @property
    def group(self) -> int:
        """Query heads that read one memory."""
        return self.query_heads // self.heads


@dataclass(frozen=True)
class Scalars:
    """Buffers with the scalars of every block of a head: [blocks, T(, T)]; ``fades`` only for one
    block. ``seen`` has those of y for each query head, with the scale in them."""

    gain: Any
    last: Any
    known: Any
    seen: Any
    fades: Any

    @staticmethod
    def allocate(blocks: int, group: int, block: int) -> Scalars:
        """For ``blocks`` blocks of at most ``block`` tokens."""
        pairs = (blocks, block, block)
        return Scalars(
            T.alloc_buffer((blocks, block), "float32"),
            T.alloc_buffer((blocks, block), "float32"),
            T.alloc_buffer(pairs, "float32"),
            T.alloc_buffer((group, *pairs), "float32"),
            T.alloc_buffer((block,), "float32"),
        )


@dataclass(frozen=True)
class TokenBlock:
    """``tokens`` tokens from ``first`` on; its scalars are at ``index``."""

    tokens: int
    first: Expr
    index: Expr


@dataclass(frozen=True)
class Plan:
    """What is compiled into an instance of the kernel."""

    form: Form
    rule: Rule
    sizes: Sizes
    scale: float

    @property
    def tokens_of_block(self) -> int:
        """Tokens of a block; those that are left at the end are blocks of one."""
        return min(self.rule.block, self.sizes.tokens)


def put_scalars(plan: Plan, args: Arguments, head: Expr, to: Scalars, block: TokenBlock) -> None:
    """Emit the scalars of one block of one head."""
    if plan.rule.decay == BY_HEAD:
        _put_fades(plan, args, head, to, block)
    for t in range(block.tokens):
        if plan.rule.corrects:
            for s, dot in enumerate(_dots(plan, args, block, args.key, head, t, t)):
                known = _weighted(plan, to, dot, s, t)
                T.buffer_store(to.known, known, [block.index, t, s])
        for j in range(plan.sizes.group):
            query = head * plan.sizes.group + j
            for s, dot in enumerate(_dots(plan, args, block, args.query, query, t, t + 1)):
                seen = _weighted(plan, to, dot * T.float32(plan.scale), s, t)
                T.buffer_store(to.seen, seen, [j, block.index, t, s])


def _put_fades(plan: Plan, args: Arguments, head: Expr, to: Scalars, block: TokenBlock) -> None:
    for t in range(block.tokens):
        fade = exp(args.decay[0, block.first + t, head], 1, plan.form.plus)
        T.buffer_store(to.fades, fade, [t])
    for t in range(block.tokens):
        T.buffer_store(to.gain, _fade(to, -1, t), [block.index, t])
        T.buffer_store(to.last, _fade(to, t, block.tokens - 1), [block.index, t])


def _weighted(plan: Plan, scalars: Scalars, dot: Expr, s: int, t: int) -> Expr:
    return dot * _fade(scalars, s, t) if plan.rule.decay == BY_HEAD else dot


def _fade(scalars: Scalars, s: int, t: int) -> Expr:
    """How much of what token s stored is left after token t."""
    factors = [scalars.fades[u] for u in range(s + 1, t + 1)]
    return reduce(lambda a, b: a * b, factors) if factors else T.float32(1)


def _dots(
    plan: Plan, args: Arguments, block: TokenBlock, of: Any, head: Expr, t: int, count: int
) -> list[Expr]:
    """Products of row t of ``of`` (keys or queries) with the keys of the first ``count`` tokens."""
    sizes, width = plan.sizes, gcd(plan.sizes.keys, 16)
    if not count:
        return []
    group = sizes.group if of is args.query else 1
    sums, all = T.alloc_buffer((count, width), "float32"), lanes_from(0, width)
    for s in range(count):
        T.buffer_store(sums, const(T.float32(0), width), [s, all])
    with T.serial(sizes.keys // width) as i:
        own = lanes_from(head * sizes.keys + i * width, width)
        other = lanes_from(T.floordiv(head, group) * sizes.keys + i * width, width)
        for s in range(count):
            left, right = of[0, block.first + t, own], args.key[0, block.first + s, other]
            T.buffer_store(sums, plan.form.plus(sums[s, all], left, right, width), [s, all])
    return [sums_of([sums[s, all]]) if width > 1 else sums[s, 0] for s in range(count)]
