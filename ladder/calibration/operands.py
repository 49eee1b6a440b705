"""The operand of a site: the value that multiplies its weight, and its rows [M, K]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.lib.stride_tricks import sliding_window_view

from ladder.ir.convolution import Window
from ladder.ir.numerics import F32
from ladder.ir.site import Site

TABLE = "a table, not a product: its rows are rounded independently"
INSIDE = "inside a subgraph (If, Loop): its input cannot be observed"
GROUPED = "a grouped convolution: each group of rows reads different channels"


@dataclass(frozen=True)
class Operand:
    """The value that sites read, and how it becomes rows. Equal operands have equal moments."""

    value: str
    window: Window | None

    def rows(self, x: np.ndarray) -> F32:
        """[M, K], with a row for each token or output pixel."""
        if self.window is not None:
            x = _patches(x, self.window)
        return np.ascontiguousarray(x.reshape(-1, x.shape[-1]), np.float32)


def operand_of(site: Site, model: ir.Model) -> Operand | str:
    """The operand of a site, or the reason why it cannot be observed."""
    node, window = site.node, site.window
    if node.op_type == "Gather":
        return TABLE
    if node.graph is not model.graph:
        return INSIDE
    if window is not None and window.group != 1:
        return GROUPED
    value = node.inputs[0]
    assert value is not None
    return Operand(value.name or "", window)


def _patches(x: np.ndarray, window: Window) -> np.ndarray:
    """im2col: [B, C, *size] -> [B, *out, taps * C], channels innermost (``rows_of``)."""
    rank = len(window.kernel)
    pads = list(zip(window.pads[:rank], window.pads[rank:], strict=True))
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    axes = tuple(range(2, 2 + rank))
    seen = sliding_window_view(x, window.reach, axes)  # [B, C, *positions, *reach]
    steps = tuple(slice(None, None, stride) for stride in window.strides)
    taps = tuple(slice(None, None, dilation) for dilation in window.dilations)
    seen = seen[(slice(None), slice(None), *steps, *taps)]
    by_tap = np.moveaxis(seen, 1, -1)  # [B, *out, *kernel, C]
    return by_tap.reshape(*by_tap.shape[: 1 + rank], -1)
