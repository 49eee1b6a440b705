"""Lower convolutions: im2col and a low-bit product, or a weight that is only stored in low bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from ladder.ir import dialect, facts
from ladder.ir.activation import FLOAT
from ladder.ir.convolution import Window
from ladder.ir.facts import KernelChoice, Kernels
from ladder.ir.shapes import static_shape
from ladder.ir.site import SITE_KEY
from ladder.passes.infra.base import Facts, Pass

Dims = list[int | ir.SymbolicDim | None]
GROUPED = KernelChoice(FLOAT, FLOAT, "a grouped convolution: its weight is only stored low-bit")
FAR_END = np.iinfo(np.int64).max  # the end of a Slice up to the end of the axis


@dataclass(frozen=True)
class LowerConvolutions(Pass):
    """Turn every LowBitConv into a product. No size of an input needs to be known.

    One group, with channels last up to the product (1x1: only the two Transposes and the product):

        %y = LowBitConv[t](%x, %w...)
          -->  %t = Transpose(%x); %p = Pad(%t)
               %c = Concat(Slice(%p), ...)     a strided Slice for each tap, one axis at a time
               %m = LowBitMatMul[t](%c, %w...); %y = Transpose(%m)

    Several groups (depthwise: a product has a handful of weights) keep float arithmetic:

          -->  %f = LowBitGather[t]([0, ..., N-1], %w...); %y = Conv(%x, Reshape(%f))
    """

    gives: ClassVar[Facts] = (Kernels,)

    def run(self, model: ir.Model) -> None:
        kernels: dict[str, KernelChoice] = {}
        for node in list(model.graph.all_nodes()):
            if node.domain == dialect.DOMAIN and node.op_type == "LowBitConv":
                window = Window.of(node)
                assert window is not None
                if window.group > 1:
                    kernels[node.metadata_props.get(SITE_KEY, node.name or "")] = GROUPED
                lower = _by_weight if window.group > 1 else _by_product
                _replace(node, lower(node, window))
        facts.put(model, Kernels(kernels))
        dialect.install(model)


class _Steps(list[ir.Node]):
    """The nodes that replace a convolution, in order; values are named after its output."""

    def __init__(self, node: ir.Node) -> None:
        super().__init__()
        self.old = node

    def add(
        self, op: str, part: str, inputs: Sequence[ir.Value | None], dims: Dims, **attributes: Any
    ) -> ir.Value:
        """The output of a standard operator."""
        made = ir.node(op, inputs, attributes, outputs=[self._value(part, dims)])
        return self._appended(made, part)

    def low_bit(self, op: str, x: ir.Value, dims: Dims) -> ir.Value:
        """The output of a dialect operator over the convolution's weight, named like it."""
        out = self._value("product" if op == "LowBitMatMul" else "rows", dims)
        made = dialect.node(op, self.old.overload, [x, *self.old.inputs[1:]], [out])
        made.metadata_props.update(self.old.metadata_props)
        self._appended(made, "")
        made.name = self.old.name
        return out

    def ints(self, part: str, numbers: Sequence[int]) -> ir.Value:
        """A constant list of int64."""
        out = self._value(part, [len(numbers)], ir.DataType.INT64)
        tensor = ir.tensor(numbers, dtype=ir.DataType.INT64)
        return self._appended(ir.node("Constant", [], {"value": tensor}, outputs=[out]), part)

    def _value(self, part: str, dims: Dims, kind: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        name = f"{self.old.outputs[0].name}.{part}"
        return ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(dims))

    def _appended(self, made: ir.Node, part: str) -> ir.Value:
        made.name = made.outputs[0].name
        self.append(made)
        return made.outputs[0]


def _by_product(node: ir.Node, window: Window) -> _Steps:
    """im2col and a product with the weight [N, K]."""
    steps, rank = _Steps(node), len(window.kernel)
    x = node.inputs[0]
    shape = static_shape(node.inputs[1])
    assert x is not None and shape is not None
    n, k = shape
    (batch, _, *size), channels = _dims(x, rank), k // window.taps
    perm = [0, *range(2, rank + 2), 1]
    value = steps.add("Transpose", "channels_last", [x], [batch, *size, channels], perm=perm)
    columns, size = _columns(steps, window, value, [batch, *size], channels)
    product = steps.low_bit("LowBitMatMul", columns, [batch, *size, n])
    perm = [0, rank + 1, *range(1, rank + 1)]
    steps.add("Transpose", "channels_first", [product], [batch, n, *size], perm=perm)
    return steps


def _columns(
    steps: _Steps, window: Window, x: ir.Value, dims: Dims, channels: int
) -> tuple[ir.Value, Dims]:
    """x [B, *size, C] -> [B, *out, taps C], and its sizes.

    The last axis comes first: the channels of its taps are then next to each other, and the next
    axis copies whole runs of them. So a 3x3 window takes six slices, not nine.
    """
    batch, *size = dims
    rank = len(window.kernel)
    out = [window.size(axis, size[axis]) for axis in range(rank)]
    if any(window.pads):
        before, after = window.pads[:rank], window.pads[rank:]
        size = [
            s + a + b if isinstance(s, int) else None
            for s, a, b in zip(size, before, after, strict=True)
        ]
        edges = steps.ints("edges", [0, *before, 0, 0, *after, 0])
        x = steps.add("Pad", "padded", [x, edges], [batch, *size, channels])
    for axis in reversed(range(rank)):
        if window.kernel[axis] == window.strides[axis] == 1:
            continue
        size[axis] = out[axis]
        parts = _taps(steps, window, axis, x, [batch, *size, channels])
        channels *= len(parts)
        x = parts[0]
        if len(parts) > 1:
            dims = [batch, *size, channels]
            x = steps.add("Concat", f"columns{axis}", parts, dims, axis=rank + 1)
    return x, size


def _taps(steps: _Steps, window: Window, axis: int, x: ir.Value, dims: Dims) -> list[ir.Value]:
    """What each tap of an axis reads of ``x``: a Slice of the dimensions ``dims``."""
    taps, dilation = window.kernel[axis], window.dilations[axis]
    along = steps.ints(f"axis{axis}", [axis + 1])
    stride = steps.ints(f"stride{axis}", [window.strides[axis]])
    found = []
    for tap in range(taps):
        part, left = f"tap{axis}_{tap}", (taps - 1 - tap) * dilation
        start = steps.ints(f"{part}.start", [tap * dilation])
        # Counted from the end, so that the size need not be known.
        end = steps.ints(f"{part}.end", [-left if left else FAR_END])
        found.append(steps.add("Slice", part, [x, start, end, along, stride], dims))
    return found


def _by_weight(node: ir.Node, window: Window) -> _Steps:
    """A standard Conv, whose weight the graph decodes to float."""
    steps = _Steps(node)
    shape = static_shape(node.inputs[1])
    assert shape is not None
    n, k = shape
    channels = k // window.taps
    weight = steps.low_bit("LowBitGather", steps.ints("every_row", range(n)), [n, k])
    if channels > 1 and window.taps > 1:
        by_tap = steps.ints("by_tap", [n, window.taps, channels])
        weight = steps.add("Reshape", "taps", [weight, by_tap], [n, window.taps, channels])
        turned: Dims = [n, channels, window.taps]
        weight = steps.add("Transpose", "turned", [weight], turned, perm=[0, 2, 1])
    kernel = [n, channels, *window.kernel]
    weight = steps.add("Reshape", "kernel", [weight, steps.ints("kernel_shape", kernel)], [*kernel])
    attributes = {a.name: a.value for a in window.attributes()}
    x = node.inputs[0]
    assert x is not None
    rank = len(window.kernel)
    batch, _, *inner = _dims(x, rank)
    size = [window.size(axis, inner[axis]) for axis in range(rank)]
    steps.add("Conv", "whole", [x, weight], [batch, n, *size], **attributes)
    return steps


def _dims(x: ir.Value, rank: int) -> Dims:
    """The input's dimensions; those not known are None."""
    return [*x.shape] if x.shape is not None else [None] * (rank + 2)


def _replace(node: ir.Node, steps: _Steps) -> None:
    graph, (old,), (new,) = node.graph, node.outputs, steps[-1].outputs
    assert isinstance(graph, ir.Graph)
    ir.convenience.replace_nodes_and_values(graph, node, [node], steps, [old], [new])
