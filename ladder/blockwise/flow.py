"""A model block by block: what each makes for the later ones, and the programs that run them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ladder.blockwise.programs import Arrays, Program
from ladder.ir.blocks import find_blocks


class Flow:
    """The chain of blocks up to the one that makes the graph's first output.

    ``wanted`` are for each block the values that later ones read, or the output; ``needed_after``
    those that a later block reads, whoever made them; ``last`` is the block that makes the output
    (-1: none does, it follows from the inputs alone).
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
        """A window's inputs and the values made of them alone."""
        values = dict(window)
        read = {v.name for block in self.chain.blocks for v in block.sides} | {self.output}
        side = self.chain.side
        names = [v.name or "" for node in side.nodes for v in node.outputs if v.name in read]
        if names:
            values.update(Program(self.model, side, names, values).run(values))
        return values

    def program(self, number: int, feeds: Arrays, replaced: Arrays | None = None) -> Program:
        """One block, with ``replaced`` weights; ``feeds`` tell the types of its inputs."""
        block = self.chain.blocks[number]
        return Program(self.model, block, self.wanted[number], feeds, replaced)

    def kept(self, number: int, values: Arrays) -> dict[str, np.ndarray]:
        """Of values seen by a block those that later blocks read: its inputs, sides included."""
        sides = {v.name for block in self.chain.blocks for v in block.sides}
        later = self.needed_after[number]
        return {name: array for name, array in values.items() if name in later or name in sides}
