"""One block of tokens reads and changes some columns of the memory of one head.

The formulas are those of ``token_block``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.float_math import exp
from ladder.codegen.kernels.parameters import Arguments
from ladder.codegen.kernels.recurrence.memory import Memory, Place
from ladder.codegen.kernels.recurrence.token_block import (
    BY_HEAD,
    BY_KEY,
    Plan,
    Scalars,
    TokenBlock,
)
from ladder.codegen.kernels.vector import Expr, const, lanes_from

Rows = Callable[[int, Expr], Expr]  # (token of the block, i) -> element i of its key or query
Pass = Callable[[Expr], None]  # what is emitted for row i of the memory


@dataclass(frozen=True)
class Columns:
    """What all blocks of tokens have in common. ``streamed``: the memory is too large to be in a
    cache, so the columns that come next are fetched."""

    plan: Plan
    args: Arguments
    place: Place
    scalars: Scalars
    memory: Memory
    streamed: bool

    def emit(self, block: TokenBlock) -> None:
        """Emit a block of tokens."""
        shape = (block.tokens, self.place.width)
        stored, seen, kept = (T.alloc_buffer(shape, "float32") for _ in range(3))
        keys = self.plan.sizes.keys if self.plan.rule.decay == BY_KEY else 1
        step = Step(self, block, stored, seen, kept, T.alloc_buffer((keys,), "float32"))
        if self.plan.rule.decay == BY_KEY:
            step.fade_keys()
        if self.plan.rule.corrects:
            step.correct_memory()
        else:
            step.add_to_memory()


@dataclass(frozen=True)
class Step:
    """A block, and vectors [tokens, columns]: ``stored`` is what a token stores, or before that
    what its key recalls; ``seen`` what a query finds; ``kept`` what is left of ``stored`` after the
    block. ``fades`` [keys] are factors of rows."""

    of: Columns
    block: TokenBlock
    stored: Any
    seen: Any
    kept: Any
    fades: Any

    def correct_memory(self) -> None:
        """What is stored depends on the memory, which is read and then changed."""
        keys, queries = self._keys(), self._queries(0)
        half = self.of.place.lines // 2
        self._clear(self.stored)
        self._clear(self.seen)
        recall, look = self._sum(self.stored, keys), self._sum(self.seen, queries)
        self._over_rows(range(half, self.of.place.lines), recall, look)
        self._find_stored()
        self._answer(0)
        self._answer_others()
        self._weigh_stored()
        self._over_rows(range(half), self._change(keys))

    def add_to_memory(self) -> None:
        """Values are stored as they are, so one pass reads and changes the memory."""
        self._answer_others()
        self._weigh_stored()
        keys, queries = self._keys(), self._queries(0)
        self._clear(self.seen)
        lines = self.of.place.lines if self.of.place.width < self.of.plan.sizes.values else 0
        self._over_rows(range(lines), self._sum(self.seen, queries), self._change(keys))
        self._answer(0)

    def _answer_others(self) -> None:
        """The outputs of the query heads of the group but the first."""
        for j in range(1, self.of.plan.sizes.group):
            queries = self._queries(j)
            self._clear(self.seen)
            self._over_rows(range(0), self._sum(self.seen, queries))
            self._answer(j)

    def fade_keys(self) -> None:
        """The factors by which the block's only token fades the rows."""
        keys, plus = self.of.plan.sizes.keys, self.of.plan.form.plus
        width = gcd(keys, 16)
        with T.serial(keys // width) as i:
            at = lanes_from(self.of.place.head * keys + i * width, width)
            fade = exp(self.of.args.decay[0, self.block.first, at], width, plus)
            T.buffer_store(self.fades, fade, [lanes_from(i * width, width)])

    def _keys(self) -> Rows:
        return self._rows(self.of.args.key, self.of.place.head)

    def _queries(self, j: int) -> Rows:
        return self._rows(self.of.args.query, self._query_head(j))

    def _query_head(self, j: int) -> Expr:
        return self.of.place.head * self.of.plan.sizes.group + j

    def _rows(self, of: Any, head: Expr) -> Rows:
        """Rows of keys or queries; those of several tokens are copied, because rows that are a
        multiple of 4096 bytes apart push each other out of the first cache."""
        keys, first = self.of.plan.sizes.keys, self.block.first
        if self.block.tokens == 1:
            return lambda t, i: of[0, first + t, head * keys + i]
        width, rows = gcd(keys, 16), T.alloc_buffer((self.block.tokens, keys), "float32")
        with T.serial(keys // width) as i:
            at = lanes_from(head * keys + i * width, width)
            for t in range(self.block.tokens):
                T.buffer_store(rows, of[0, first + t, at], [t, lanes_from(i * width, width)])
        return lambda t, i: rows[t, i]

    def _over_rows(self, lines: range, *passes: Pass) -> None:
        """Emit one pass over the memory, which also fetches some lines of the next columns."""
        with T.serial(self.of.plan.sizes.keys) as i:
            for emit in passes:
                emit(i)
            if self.of.streamed:
                self.of.place.prefetch_next(self.of.args, i, lines)

    def _sum(self, to: Any, rows: Rows) -> Pass:
        """Keys or queries times memory."""

        def emit(i: Expr) -> None:
            for t in range(self.block.tokens):
                factor = rows(t, i)
                if self.of.plan.rule.decay == BY_KEY:
                    factor = factor * self.fades[i]
                vector = self.of.memory.read(i)
                self._put(to, t, self._plus(to[t, self._all], self._spread(factor), vector))

        return emit

    def _change(self, keys: Rows) -> Pass:
        """Fade a row, and add what tokens left."""

        def emit(i: Expr) -> None:
            row = self.of.memory.read(i)
            if self.of.plan.rule.decay:
                row = row * self._spread(self._fade_of_row(i))
            for t in range(self.block.tokens):
                row = self._plus(row, self._spread(keys(t, i)), self.kept[t, self._all])
            self.of.memory.write(i, row)

        return emit

    def _fade_of_row(self, i: Expr) -> Expr:
        by_key = self.of.plan.rule.decay == BY_KEY
        return self.fades[i] if by_key else self._gain(self.block.tokens - 1)

    def _find_stored(self) -> None:
        """What each token stores: what its key does not recall of its value yet."""
        for t in range(self.block.tokens):
            new = self._plus(
                self._value(t), self._spread(-self._gain(t)), self.stored[t, self._all]
            )
            for s in range(t):
                factor = self._spread(-self.of.scalars.known[self.block.index, t, s])
                new = self._plus(new, factor, self.stored[s, self._all])
            beta = self.of.args.beta[0, self.block.first + t, self.of.place.head]
            self._put(self.stored, t, new * self._spread(beta))

    def _weigh_stored(self) -> None:
        """What is left of it after the block."""
        for t in range(self.block.tokens):
            left = self._left_by(t)
            if self.of.plan.rule.decay == BY_HEAD:
                left = left * self._spread(self.of.scalars.last[self.block.index, t])
            self._put(self.kept, t, left)

    def _answer(self, j: int) -> None:
        """The outputs of query head j of the group."""
        values, place = self.of.plan.sizes.values, self.of.place
        to = lanes_from(self._query_head(j) * values + place.first, place.width)
        for t in range(self.block.tokens):
            scale = self._gain(t) * T.float32(self.of.plan.scale)
            y = self.seen[t, self._all] * self._spread(scale)
            for s in range(t + 1):
                factor = self._spread(self.of.scalars.seen[j, self.block.index, t, s])
                y = self._plus(y, factor, self._left_by(s))
            T.buffer_store(self.of.args.out, y, [0, self.block.first + t, to])

    def _gain(self, t: int) -> Expr:
        """How much of the memory before the block is left after token t."""
        if self.of.plan.rule.decay != BY_HEAD:
            return T.float32(1)
        return self.of.scalars.gain[self.block.index, t]

    def _left_by(self, t: int) -> Expr:
        """What token t stores; values need no copy."""
        return self.stored[t, self._all] if self.of.plan.rule.corrects else self._value(t)

    def _value(self, t: int) -> Expr:
        place, values = self.of.place, self.of.plan.sizes.values
        at = lanes_from(place.head * values + place.first, place.width)
        return self.of.args.value[0, self.block.first + t, at]

    @property
    def _all(self) -> Expr:
        return lanes_from(0, self.of.place.width)

    def _spread(self, value: Expr) -> Expr:
        return const(value, self.of.place.width)

    def _plus(self, a: Expr, b: Expr, c: Expr) -> Expr:
        return self.of.plan.form.plus(a, b, c, self.of.place.width)

    def _put(self, buffer: Any, t: int, value: Expr) -> None:
        T.buffer_store(buffer, value, [t, self._all])

    def _clear(self, sums: Any) -> None:
        for t in range(self.block.tokens):
            self._put(sums, t, self._spread(T.float32(0)))
