"""Pairs of QuantizeLinear and DequantizeLinear around a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ladder.ir.names import Names, add_initializer
from ladder.ir.site import constant_of
from ladder.ir.unused import drop_unused

LEVELS = 255
MOST_BIAS = 2**31 - 1


@dataclass(frozen=True)
class Grid:
    """The values of codes: (code - zero) * scale."""

    scale: np.float32
    zero: int

    @staticmethod
    def over(low: float, high: float, lowest: int) -> Grid:
        """The grid of 256 codes from ``lowest`` on over a range, widened to hold 0 exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32((high - low) / LEVELS)
        if not scale > 0:
            return Grid(np.float32(1), lowest)
        return Grid(scale, lowest + int(np.clip(np.rint(-low / scale), 0, LEVELS)))


class Pairs:
    """Makes pairs; readers of one value with one grid share a pair. Codes are of type ``kind``."""

    def __init__(self, model: ir.Model, kind: ir.DataType) -> None:
        self._graph, self._kind, self._names = model.graph, kind, Names(model)
        self._made: dict[tuple[int, Grid], ir.Value] = {}
        self._grids: dict[int, Grid] = {}  # of decoded values

    def grid(self, value: ir.Value | None) -> Grid | None:
        """The grid of a value that a pair decodes."""
        return self._grids.get(id(value))

    def read(self, node: ir.Node, place: int, grid: Grid) -> Grid:
        """Let the node read an input through a pair, if it does not yet; return its grid."""
        value = node.inputs[place]
        assert value is not None
        if self.grid(value) is None:
            node.replace_input_with(place, self._pair(value, grid))
        return self._grids[id(node.inputs[place])]

    def spread(self, value: ir.Value, grid: Grid) -> None:
        """Let every reader of a value read it through a pair; it keeps its name at an output."""
        readers = list(value.uses())
        decoded = self._pair(value, grid)
        for user, place in readers:
            user.replace_input_with(place, decoded)
        if value.is_graph_output():
            name = value.name or ""
            value.name = self._names.fresh(f"{name}.float")
            decoded.name = name
            at = [out is value for out in self._graph.outputs].index(True)
            self._graph.outputs[at] = decoded

    def put_bias(self, conv: ir.Node, scales: np.ndarray) -> None:
        """The bias of a convolution as int32 in units of its sums, as integer forms need it."""
        bias = conv.inputs[2] if len(conv.inputs) > 2 else None
        tensor = constant_of(bias)
        if bias is None or tensor is None or not scales.all():
            return
        codes = np.rint(tensor.numpy().astype(np.float64) / scales)
        if np.abs(codes).max() > MOST_BIAS:
            return
        name = self._names.fresh(f"{bias.name}.int32")
        inputs = [
            add_initializer(self._graph, name, codes.astype(np.int32)),
            add_initializer(self._graph, f"{name}.scale", scales.astype(np.float32)),
        ]
        decoded = self._node("DequantizeLinear", inputs, f"{name}.decoded", bias)
        producer = decoded.producer()
        assert producer is not None
        producer.attributes.add(ir.AttrInt64("axis", 0))
        self._graph.insert_before(conv, producer)
        conv.replace_input_with(2, decoded)
        drop_unused([bias])

    def _pair(self, value: ir.Value, grid: Grid) -> ir.Value:
        key = (id(value), grid)
        if key not in self._made:
            self._made[key] = self._new_pair(value, grid)
            self._grids[id(self._made[key])] = grid
        return self._made[key]

    def _new_pair(self, value: ir.Value, grid: Grid) -> ir.Value:
        name, kind = value.name or "value", self._kind.numpy()
        scale = add_initializer(self._graph, f"{name}.q.scale", np.array(grid.scale, np.float32))
        zero = add_initializer(self._graph, f"{name}.q.zero", np.array(grid.zero, kind))
        q = self._node("QuantizeLinear", [value, scale, zero], f"{name}.q", value)
        q.type = ir.TensorType(self._kind)
        decoded = self._node("DequantizeLinear", [q, scale, zero], f"{name}.rounded", value)
        nodes = [q.producer(), decoded.producer()]
        producer = value.producer()
        if producer is not None:
            self._graph.insert_after(producer, nodes)  # type: ignore[arg-type]
        else:
            self._graph.insert_before(self._graph[0], nodes)  # type: ignore[arg-type]
        return decoded

    def _node(self, op: str, inputs: list[ir.Value], name: str, like: ir.Value) -> ir.Value:
        """The output of a new node of the type and shape of ``like``."""
        made = ir.node(op, inputs, name=self._names.fresh(name))
        out = made.outputs[0]
        out.name, out.type, out.shape = made.name, like.type, like.shape
        return out
