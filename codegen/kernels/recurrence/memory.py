"""One block of tokens reads and changes some columns of the memory of one head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels.float_math import exp
from ladder.codegen.kernels.parameters import Arguments
from ladder.codegen.kernels.recurrence.token_block import (
    BY_HEAD,
    BY_KEY,
    Plan,
    Scalars,
    TokenBlock,
)
from ladder.codegen.kernels.vector import Expr, const, lanes_from


@dataclass(frozen=True)
class Memory:
    """How rows of the columns are read and written."""

    read: Callable[[Expr], Expr]
    write: Callable[[Expr, Expr], None]


@dataclass(frozen=True)
class Place:
    """``width`` columns of a head from ``first`` on."""

    head: Expr
    first: Expr
    width: int

    @contextmanager
    def memory(self, args: Arguments, keys: int, in_cache: bool) -> Iterator[Memory]:
        """The columns, of which each pass but the first reads what the one before wrote.

        ``in_cache``: for several blocks of tokens they are copied, so that rows are neighbours.
        """
        at = lanes_from(self.first, self.width)
        direct = Memory(
            lambda row: args.past[0, self.head, row, at],
            lambda row, value: T.buffer_store(args.present, value, [0, self.head, row, at]),
        )
        if not in_cache:
            yield direct
            return
        rows, all = T.alloc_buffer((keys, self.width), "float32"), lanes_from(0, self.width)
        with T.serial(keys) as row:
            T.buffer_store(rows, direct.read(row), [row, all])
        yield Memory(
            lambda row: rows[row, all],
            lambda row, value: T.buffer_store(rows, value, [row, all]),
        )
        with T.serial(keys) as row:
            direct.write(row, rows[row, all])


@dataclass(frozen=True)
class Step:
    """Emits blocks of tokens."""

    plan: Plan
    args: Arguments
    place: Place
    scalars: Scalars
    memory: Memory

    def emit(self, block: TokenBlock) -> None:
        """Emit one. Where the stored vectors do not depend on the memory, reading for the first
        query head and writing are one pass."""
        work = _Work.allocate(self, block)
        if self.plan.rule.decay == BY_KEY:
            work.fade_keys()
        corrects = self.plan.rule.corrects
        if corrects:
            work.clear(work.stored)
            work.clear(work.seen)
            work.over_rows(work.recall, work.look(0))
            work.find_stored()
            work.answer(0)
        for j in range(1, self.plan.sizes.group):
            work.clear(work.seen)
            work.over_rows(work.look(j))
            work.answer(j)
        work.weigh_stored()
        if corrects:
            work.over_rows(work.change)
        else:
            work.clear(work.seen)
            work.over_rows(work.look(0), work.change)
            work.answer(0)


Pass = Callable[[Expr], None]  # what is emitted for row i of the memory


@dataclass(frozen=True)
class _Work:
    """A block of tokens, and vectors [tokens, columns]: ``stored`` is what a token stores, or
    before that what its key recalls; ``seen`` what a query finds; ``kept`` what is left of
    ``stored`` after the block. ``fades`` [keys] are factors of rows."""

    step: Step
    block: TokenBlock
    stored: Any
    seen: Any
    kept: Any
    fades: Any

    @staticmethod
    def allocate(step: Step, block: TokenBlock) -> _Work:
        vectors = [T.alloc_buffer((block.tokens, step.place.width), "float32") for _ in range(3)]
        keys = step.plan.sizes.keys if step.plan.rule.decay == BY_KEY else 1
        return _Work(step, block, *vectors, T.alloc_buffer((keys,), "float32"))

    @property
    def _all(self) -> Expr:
        return lanes_from(0, self.step.place.width)

    def _spread(self, value: Expr) -> Expr:
        return const(value, self.step.place.width)

    def _plus(self, a: Expr, b: Expr, c: Expr) -> Expr:
        return self.step.plan.form.plus(a, b, c, self.step.place.width)

    def _put(self, buffer: Any, t: int, value: Expr) -> None:
        T.buffer_store(buffer, value, [t, self._all])

    def _add(self, buffer: Any, t: int, factor: Expr, vector: Expr) -> None:
        self._put(buffer, t, self._plus(buffer[t, self._all], self._spread(factor), vector))

    def over_rows(self, *passes: Pass) -> None:
        """Emit one pass over the memory."""
        with T.serial(self.step.plan.sizes.keys) as i:
            for emit in passes:
                emit(i)

    def fade_keys(self) -> None:
        """The factors by which the block's only token fades the rows."""
        keys, form = self.step.plan.sizes.keys, self.step.plan.form
        width = gcd(keys, 16)
        with T.serial(keys // width) as i:
            decay = self.step.args.decay[
                0, self.block.first, lanes_from(self.step.place.head * keys + i * width, width)
            ]
            T.buffer_store(self.fades, exp(decay, width, form.plus), [lanes_from(i * width, width)])

    def clear(self, sums: Any) -> None:
        """Begin sums."""
        for t in range(self.block.tokens):
            self._put(sums, t, self._spread(T.float32(0)))

    def recall(self, i: Expr) -> None:
        """Key times memory."""
        keys = self.step.plan.sizes.keys
        for t in range(self.block.tokens):
            key = self.step.args.key[0, self.block.first + t, self.step.place.head * keys + i]
            self._add(self.stored, t, self._faded(key, i), self.step.memory.read(i))

    def look(self, j: int) -> Pass:
        """Query head j of the group times memory."""
        sizes = self.step.plan.sizes
        head = self.step.place.head * sizes.group + j

        def emit(i: Expr) -> None:
            for t in range(self.block.tokens):
                query = self.step.args.query[0, self.block.first + t, head * sizes.keys + i]
                self._add(self.seen, t, self._faded(query, i), self.step.memory.read(i))

        return emit

    def _faded(self, value: Expr, i: Expr) -> Expr:
        return value * self.fades[i] if self.step.plan.rule.decay == BY_KEY else value

    def change(self, i: Expr) -> None:
        """Fade a row, and add what tokens left."""
        tokens, memory, keys = self.block.tokens, self.step.memory, self.step.plan.sizes.keys
        row = memory.read(i)
        if self.step.plan.rule.decay:
            row = row * self._spread(self._fade_of_row(i))
        for t in range(tokens):
            key = self.step.args.key[0, self.block.first + t, self.step.place.head * keys + i]
            row = self._plus(row, self._spread(key), self.kept[t, self._all])
        memory.write(i, row)

    def _fade_of_row(self, i: Expr) -> Expr:
        if self.step.plan.rule.decay == BY_KEY:
            return self.fades[i]
        return self.step.scalars.gain[self.block.index, self.block.tokens - 1]

    def find_stored(self) -> None:
        """What each token stores: what its key does not recall of its value yet."""
        scalars, b = self.step.scalars, self.block.index
        for t in range(self.block.tokens):
            new = self._plus(self._value(t), self._spread(-self._gain(t)), self.stored[t, self._all])
            for s in range(t):
                factor = self._spread(-scalars.known[b, t, s])
                new = self._plus(new, factor, self.stored[s, self._all])
            beta = self.step.args.beta[0, self.block.first + t, self.step.place.head]
            self._put(self.stored, t, new * self._spread(beta))

    def weigh_stored(self) -> None:
        """What is left of it after the block."""
        for t in range(self.block.tokens):
            left = self._left_by(t)
            if self.step.plan.rule.decay == BY_HEAD:
                left = left * self._spread(self.step.scalars.last[self.block.index, t])
            self._put(self.kept, t, left)

    def answer(self, j: int) -> None:
        """The outputs of query head j of the group."""
        sizes, plan = self.step.plan.sizes, self.step.plan
        head = self.step.place.head * sizes.group + j
        to = lanes_from(head * sizes.values + self.step.place.first, self.step.place.width)
        for t in range(self.block.tokens):
            y = self.seen[t, self._all] * self._spread(self._gain(t) * T.float32(plan.scale))
            for s in range(t + 1):
                factor = self._spread(self.step.scalars.seen[j, self.block.index, t, s])
                y = self._plus(y, factor, self._left_by(s))
            T.buffer_store(self.step.args.out, y, [0, self.block.first + t, to])

    def _gain(self, t: int) -> Expr:
        """How much of the memory before the block is left after token t."""
        if self.step.plan.rule.decay != BY_HEAD:
            return T.float32(1)
        return self.step.scalars.gain[self.block.index, t]

    def _left_by(self, t: int) -> Expr:
        """What token t stores; values need no copy."""
        return self.stored[t, self._all] if self.step.plan.rule.corrects else self._value(t)

    def _value(self, t: int) -> Expr:
        place, values = self.step.place, self.step.plan.sizes.values
        at = lanes_from(place.head * values + place.first, place.width)
        return self.step.args.value[0, self.block.first + t, at]
