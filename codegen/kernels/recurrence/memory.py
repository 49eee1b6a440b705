"""Some columns of the memory of one head: where they are, and how they are read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm.script import tirx as T

from ladder.codegen.kernels.parameters import Arguments
from ladder.codegen.kernels.vector import Expr, lanes_from, prefetch

LINE = 16  # floats of a cache line


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

    @property
    def lines(self) -> int:
        """Cache lines of a row."""
        return -(-self.width // LINE)

    @contextmanager
    def memory(self, args: Arguments, keys: int, in_cache: bool) -> Iterator[Memory]:
        """The columns. ``in_cache``: for several blocks of tokens they are copied, so that rows are
        neighbours in the first cache."""
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

    def prefetch_next(self, args: Arguments, row: Expr, lines: range) -> None:
        """Fetch lines of a row of the columns that come next, perhaps after the last head."""
        blocks = int(args.past.shape[3]) // self.width
        next_block = self.head * blocks + T.floordiv(self.first, self.width) + 1
        head, column = T.floordiv(next_block, blocks), T.floormod(next_block, blocks) * self.width
        for line in lines:
            address = T.address_of(args.past[0, head, row, column + line * LINE])
            T.evaluate(prefetch(address))
