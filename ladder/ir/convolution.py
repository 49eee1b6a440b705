"""Convolutions: their attributes, which of them have a low-bit form, and the body of that form.

A kernel [O, C/group, *taps] is a weight [N, K] whose K has the taps outside and the channels
inside. Then im2col over activations with channels last copies whole runs of channels, and a group
of weights is within one tap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx_ir as ir

SPATIAL = (1, 2, 3)  # dimensions of the window
ATTRIBUTES = ("kernel_shape", "strides", "dilations", "pads", "group")
BODY = (
    "conv_kernel = Constant <value_ints: ints = @kernel_shape> ()",
    "conv_taps = ReduceProd <keepdims=1> (conv_kernel)",
    "conv_n = Shape <end=1> (w)",
    "conv_rest = Constant <value_ints=[-1]> ()",
    "conv_by_tap = Concat <axis=0> (conv_n, conv_taps, conv_rest)",
    "conv_deep = Reshape (w, conv_by_tap)",
    "conv_channels_first = Transpose <perm=[0, 2, 1]> (conv_deep)",
    "conv_whole = Concat <axis=0> (conv_n, conv_rest, conv_kernel)",
    "conv_spread = Reshape (conv_channels_first, conv_whole)",
    "y = Conv <kernel_shape: ints = @kernel_shape, strides: ints = @strides, "
    "dilations: ints = @dilations, pads: ints = @pads, group: int = @group> (x, conv_spread)",
)  # w [N, K] -> y; the names do not occur in ``bodies.dequantized``


@dataclass(frozen=True)
class Window:
    """A convolution's attributes with all defaults filled in; pads are begins, then ends."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    group: int

    @staticmethod
    def of(node: ir.Node, kernel: Sequence[int] | None = None) -> Window | None:
        """The window of a Conv over ``kernel``, or of a LowBitConv.

        None if the pads depend on a size of the input that is not known.
        """
        kernel = _ints(node, "kernel_shape", ()) if kernel is None else tuple(kernel)
        ones = (1,) * len(kernel)
        group = node.attributes.get("group")
        window = Window(
            kernel,
            _ints(node, "strides", ones),
            _ints(node, "dilations", ones),
            _ints(node, "pads", (0,) * 2 * len(kernel)),
            1 if group is None else group.as_int(),
        )
        mode = _auto_pad(node)
        if mode in ("NOTSET", "VALID"):
            return window
        pads = window._same_pads(node.inputs[0], upper=mode == "SAME_UPPER")
        return None if pads is None else replace(window, pads=pads)

    @property
    def taps(self) -> int:
        """The number of weights of one channel."""
        return prod(self.kernel)

    @property
    def reach(self) -> tuple[int, ...]:
        """The number of inputs from the first tap to the last, both included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def size(self, axis: int, size: object) -> int | None:
        """The output's size along a spatial axis, if the input's size is a number."""
        if not isinstance(size, int):
            return None
        padded = size + self.pads[axis] + self.pads[axis + len(self.kernel)]
        return (padded - self.reach[axis]) // self.strides[axis] + 1

    def attributes(self) -> list[ir.Attr]:
        """The attributes of a LowBitConv, or of the Conv that it replaces."""
        values = (self.kernel, self.strides, self.dilations, self.pads)
        lists = [ir.AttrInt64s(n, v) for n, v in zip(ATTRIBUTES, values, strict=False)]
        return [*lists, ir.AttrInt64("group", self.group)]

    def _same_pads(self, x: ir.Value | None, upper: bool) -> tuple[int, ...] | None:
        """Pads for ceil(size / stride) outputs; an odd one is added at the end, or at the begin."""
        rank = len(self.kernel)
        sizes = list(x.shape)[-rank:] if x is not None and x.shape is not None else [None] * rank
        small, large = [], []
        for size, reach, stride in zip(sizes, self.reach, self.strides, strict=True):
            if stride == 1:
                total = reach - 1
            elif isinstance(size, int):
                total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            else:
                return None
            small.append(total // 2)
            large.append(total - total // 2)
        return (*small, *large) if upper else (*large, *small)


def refuse(node: ir.Node, shape: Sequence[int]) -> str | None:
    """Why a Conv with a kernel of this shape has no low-bit form, or None."""
    _, channels, *kernel = shape
    if len(kernel) not in SPATIAL:
        return f"its window has {len(kernel)} dimensions, not 1, 2 or 3"
    if channels * prod(kernel) == 1:
        return "each output has a single weight: its scale would take more space"
    if Window.of(node, kernel) is None:
        return f"its pads ({_auto_pad(node)}) depend on the input's size, which is not static"
    return None


def rows_of(kernel: np.ndarray) -> np.ndarray:
    """A kernel [O, C/group, *taps] as [N, K], with channels innermost."""
    n, channels = kernel.shape[:2]
    by_tap: np.ndarray = kernel.reshape(n, channels, -1).transpose(0, 2, 1).reshape(n, -1)
    return by_tap


def _ints(node: ir.Node, name: str, default: Iterable[int]) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return tuple(default) if attribute is None else tuple(attribute.as_ints())


def _auto_pad(node: ir.Node) -> str:
    attribute = node.attributes.get("auto_pad")
    return "NOTSET" if attribute is None else attribute.as_string()
