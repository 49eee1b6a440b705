"""Sliding windows of attention in memory of their own size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ladder.ir import facts
from ladder.ir.facts import Windows
from ladder.ir.states import CONTEXT
from ladder.passes.infra.base import Facts, Pass
from ladder.passes.infra.maker import Maker
from ladder.passes.infra.rows import write_of

AXIS, MASK = 2, 3  # of the rows of keys and values; the input of Attention
BOOL, INT = ir.DataType.BOOL, ir.DataType.INT64


@dataclass(frozen=True)
class Rolled:
    """A state whose rows become a ring, the operator that writes it, and its window."""

    state: ir.Value
    write: ir.Node
    window: int


@dataclass(frozen=True)
class RollWindows(Pass):
    """Keep the last rows of states that are only seen through a window: a ring that wraps around.

    The ring has ``spare`` rows more than the window, for the tokens of a call. The fact Windows has
    the masks; the new ones are made of the positions that the rows of the ring hold.

        %next = TensorScatter(%state: [1, heads, context, D], %rows, %position)
        Attention(%q, %next, ..., %mask: [1, 1, tokens, context])
          -->
        %next = TensorScatter[circular](%state: [1, heads, R, D], %rows, %position)
        Attention(%q, %next, ..., %ring.mask: [1, 1, tokens, R])
    """

    needs: ClassVar[Facts] = (Windows,)

    spare: int

    def run(self, model: ir.Model) -> None:
        windows = facts.need(model, Windows).masks
        rolled = list(_rolled(model.graph, windows))
        if not _keep_context(model.graph, [item.state for item in rolled]):
            return
        masks = {
            window: _ring_mask(model.graph, window, window + self.spare)
            for window in sorted({item.window for item in rolled})
        }
        for item in rolled:
            _roll(item, item.window + self.spare, masks[item.window])
        RemoveUnusedNodesPass()(model)


def _rolled(graph: ir.Graph, windows: Mapping[str, int]) -> Iterator[Rolled]:
    """The states that every reader sees through the same window."""
    for state in graph.inputs:
        write = write_of(state)
        if write is None or write.attributes.get_int("axis", AXIS) != AXIS:
            continue
        found = {windows.get(mask.name or "") for mask in _masks(write) if mask is not None}
        window = found.pop() if len(found) == 1 else None
        if window is not None and None not in _masks(write):
            yield Rolled(state, write, window)


def _masks(write: ir.Node) -> list[ir.Value | None]:
    """The masks of the operators that read what ``write`` wrote."""
    return [(*use.node.inputs, None, None)[MASK] for use in write.outputs[0].uses()]


def _keep_context(graph: ir.Graph, states: Sequence[ir.Value]) -> bool:
    """Ask another state for the number of rows; False if there is something to roll, but no other.

    Without another state, the masks that are replaced must be all that depends on the number.
    """
    asked = [use.node for state in states for use in state.uses() if use.node.op_type == "Shape"]
    other = next((v for v in graph.inputs if v not in states and _has_context(v)), None)
    if other is not None:
        for node in asked:
            node.replace_input_with(0, other)
        return bool(states)
    rolled: set[ir.Value | None] = {
        write.outputs[0] for state in states if (write := write_of(state)) is not None
    }
    return bool(states) and all(_only_masks(node.outputs[0], rolled) for node in asked)


def _has_context(value: ir.Value) -> bool:
    dim = value.shape[AXIS] if value.shape is not None and len(value.shape) > AXIS else None
    return isinstance(dim, ir.SymbolicDim) and dim.value == CONTEXT


def _only_masks(value: ir.Value, rolled: set[ir.Value | None]) -> bool:
    """Whether all that depends on a value are masks of Attention over ``rolled``."""
    waiting, seen = [value], {value}
    while waiting:
        value = waiting.pop()
        if value.is_graph_output():
            return False
        for use in value.uses():
            if use.node.op_type == "Attention":
                if use.idx != MASK or use.node.inputs[1] not in rolled:
                    return False
                continue
            new = [out for out in use.node.outputs if out not in seen]
            waiting += new
            seen.update(new)
    return True


def _ring_mask(graph: ir.Graph, window: int, rows: int) -> ir.Value:
    """[1, 1, tokens, rows]: whether a row holds one of the last ``window`` keys of a token."""
    ids, position = graph.inputs[0], graph.inputs[1]
    tokens = ids.shape[1] if ids.shape is not None else None
    make = Maker(graph, f"window.{window}")
    square, column = ir.Shape([tokens, rows]), ir.Shape([tokens, 1])
    zero, one, width = (make.constant(f"int{n}", np.array(n)) for n in (0, 1, window))
    count = make.make("Shape", [ids], INT, ir.Shape([1]), {"start": 1, "end": 2})
    held = _held(make, position, count, rows)
    number = make.make("Squeeze", [count], INT, ir.Shape([]))
    steps = make.make("Range", [zero, number, one], INT, ir.Shape([tokens]))
    places = make.make("Add", [steps, position], INT, ir.Shape([tokens]))
    queries = make.make("Unsqueeze", [places, make.constant("last", np.array([1]))], INT, column)
    limit = make.make("Sub", [queries, width], INT, column)
    written = make.make("GreaterOrEqual", [held, zero], BOOL, held.shape)
    before = make.make("LessOrEqual", [held, queries], BOOL, square)
    inside = make.make("Greater", [held, limit], BOOL, square)
    near = make.make("And", [before, inside], BOOL, square)
    seen = make.make("And", [near, written], BOOL, square)
    front = make.constant("front", np.array([0, 1]))
    mask = make.make("Unsqueeze", [seen, front], BOOL, ir.Shape([1, 1, tokens, rows]))
    graph.insert_before(graph[0], make.nodes)
    return mask


def _held(make: Maker, position: ir.Value, count: ir.Value, rows: int) -> ir.Value:
    """The position that each row of a ring holds after a call of ``count`` tokens; negative: none.

    It is the last one that is the row's number modulo ``rows``.
    """
    line, one = ir.Shape([rows]), ir.Shape([1])
    end = make.make("Add", [position, count], INT, one)
    last = make.make("Sub", [end, make.constant("one", np.array([1]))], INT, one)
    apart = make.make("Sub", [last, make.constant("rows", np.arange(rows))], INT, line)
    ago = make.make("Mod", [apart, make.constant("size", np.array(rows))], INT, line)
    return make.make("Sub", [last, ago], INT, line)


def _roll(item: Rolled, rows: int, mask: ir.Value) -> None:
    after = item.write.outputs[0]
    for value in (item.state, after):
        assert value.shape is not None
        value.shape = ir.Shape([rows if i == AXIS else d for i, d in enumerate(value.shape)])
    item.write.attributes["mode"] = ir.AttrString("mode", "circular")
    for use in list(after.uses()):
        use.node.replace_input_with(MASK, mask)
