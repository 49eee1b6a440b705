"""The flow of values between the blocks of a model, and the programs that run the blocks."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ladder.blockwise.programs import Arrays, Program
from ladder.ir.blocks import find_blocks


class Flow:
    """The chain of blocks up to the one that computes the graph's first output.

    ``wanted`` has, for each block, its values that later blocks read, or the output.
    ``needed_after`` has, for each block, all values that later blocks read. ``last`` is the block
    that computes the output (-1 if the output depends on the inputs alone).
    """

    def __init__(self, model: ir.Model) -> None:
        self.model, self.chain = model, find_blocks(model)
        self.output = model.graph.outputs[0].name or ""
        needed: set[str] = set()
        wanted: list[list[str]] = []
        needed_after: list[frozenset[str]] = []
        for block in reversed(self.chain.blocks):
            needed_after.append(frozenset(needed))
            names = [v.name or "" for v in block.outputs]
            wanted.append([n for n in names if n in needed or n == self.output])
            needed.update(v.name or "" for v in block.inputs)
        self.wanted, self.needed_after = wanted[::-1], needed_after[::-1]
        self.last = max((i for i, w in enumerate(self.wanted) if self.output in w), default=-1)
        if self.last >= 0:
            self.wanted[self.last] = [self.output]

    def side_values(self, window: Arrays) -> dict[str, np.ndarray]:
        """A window's inputs and the values that depend on them alone."""
        values = dict(window)
        read = {v.name for block in self.chain.blocks for v in block.sides} | {self.output}
        side = self.chain.side
        names = [v.name or "" for node in side.nodes for v in node.outputs if v.name in read]
        if names:
            values.update(Program(self.model, side, names, values).run(values))
        return values

    def program(self, number: int, feeds: Arrays, replaced: Arrays | None = None) -> Program:
        """A block with ``replaced`` weights; ``feeds`` give the types of its inputs."""
        block = self.chain.blocks[number]
        return Program(self.model, block, self.wanted[number], feeds, replaced)

    def kept(self, number: int, values: Arrays) -> dict[str, np.ndarray]:
        """Select from ``values`` those that later blocks read."""
        sides = {v.name for block in self.chain.blocks for v in block.sides}
        later = self.needed_after[number]
        return {name: array for name, array in values.items() if name in later or name in sides}
