"""Which masks of attention are windows: found by computing them for every position of a context.

A mask that depends on positions only is computed by ONNX Runtime, for all tokens of a text that
fills the context. It is a window of W if each token sees the last W keys, itself included.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ladder.ir.facts import Windows
from ladder.ir.states import CONTEXT
from ladder.reference import Reference

MASK = 3  # input of Attention
TOKENS = 64  # of one computation, unless the context is shorter
MOST = 256  # computations; a longer context is sampled


def find_windows(model: ir.Model, rows: int) -> Windows:
    """The masks of attention over ``rows`` keys that are windows narrower than them, and others."""
    names = [mask.name for mask in _masks(model.graph) if _of_positions(mask)]
    if not names:
        return Windows()
    found = _Masks(model, [name for name in names if name], rows).widths()
    return Windows(
        {name: width for name, width in found.items() if width is not None and width < rows},
        tuple(name for name, width in found.items() if width is None),
    )


def _masks(graph: ir.Graph) -> Iterator[ir.Value]:
    found = {
        node.inputs[MASK]: None
        for node in graph
        if node.op_type == "Attention" and len(node.inputs) > MASK
    }
    yield from (mask for mask in found if mask is not None and mask.dtype == ir.DataType.BOOL)


def _of_positions(mask: ir.Value) -> bool:
    """Whether a mask depends on the position and on sizes only."""
    waiting, seen = [mask], {mask}
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if node is None and value.is_graph_input() and value.name != "position":
            return False
        if node is None or node.op_type == "Shape":
            continue
        new = [v for v in node.inputs if v is not None and v not in seen]
        waiting += new
        seen.update(new)
    return True


class _Masks:
    """Masks by name, computed alone."""

    def __init__(self, model: ir.Model, names: list[str], rows: int) -> None:
        copy = model.clone()
        values = {v.name: v for node in copy.graph for v in node.outputs}
        copy.graph.outputs[:] = [values[name] for name in names]
        RemoveUnusedNodesPass()(copy)
        copy.graph.inputs[:] = [v for v in copy.graph.inputs if v.uses()]
        self.rows, self.tokens = rows, min(TOKENS, rows)
        self.inputs = list(copy.graph.inputs)
        self.reference = Reference(copy, threads=1)

    def widths(self) -> dict[str, int | None]:
        """W of each mask, None where it is no window; all rows, where every token is seen."""
        found: dict[str, int | None] = {}
        for start in self._starts():
            for name, mask in self._run(start).items():
                width = found.setdefault(name, int(mask[..., -1, :].sum()))
                if width is not None and not _is_window(mask, start, width):
                    found[name] = None
        return found

    def _starts(self) -> list[int]:
        """The first positions of the computations, the last one first."""
        last = self.rows - self.tokens
        step = self.tokens * -(-self.rows // (self.tokens * MOST))
        return [last, *range(0, last, step)]

    def _run(self, start: int) -> dict[str, np.ndarray]:
        return self.reference.run({v.name or "": self._feed(v, start) for v in self.inputs})

    def _feed(self, value: ir.Value, start: int) -> np.ndarray:
        if value.name == "position":
            return np.array([start], np.int64)
        assert value.shape is not None and value.dtype is not None
        sizes = [
            size if isinstance(size, int) else self.rows if size.value == CONTEXT else self.tokens
            for size in value.shape
        ]
        return np.zeros(sizes, value.dtype.numpy())


def _is_window(mask: np.ndarray, start: int, width: int) -> bool:
    """Whether each token from ``start`` on sees the last ``width`` keys."""
    queries, keys = np.arange(start, start + mask.shape[-2])[:, None], np.arange(mask.shape[-1])
    wanted = (keys <= queries) & (keys > queries - width)
    return mask.size == wanted.size and bool((mask == wanted).all())
