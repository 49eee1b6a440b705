"""ONNX operators in torch: those that learned rounding supports.

Each takes the attributes of the node and its operands (None if one is omitted), and returns the
first output, or a tuple of all. Shapes are concrete, so integers are read from tensors directly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from ladder.errors import LadderError

Attributes = dict[str, Any]
Operator = Callable[..., Any]  # (attributes, *operands)
ONNX_TYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.INT64: torch.int64,
    ir.DataType.INT32: torch.int32,
    ir.DataType.BOOL: torch.bool,
}
OPERATORS: dict[str, Operator] = {
    "Abs": lambda a, x: x.abs(),
    "Add": lambda a, x, y: x + y,
    "And": lambda a, x, y: x & y,
    "Cos": lambda a, x: x.cos(),
    "Equal": lambda a, x, y: x == y,
    "Erf": lambda a, x: x.erf(),
    "Exp": lambda a, x: x.exp(),
    "Expand": lambda a, x, shape: x * torch.ones(tuple(shape.tolist()), dtype=x.dtype),
    "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", "none")),
    "Greater": lambda a, x, y: x > y,
    "GreaterOrEqual": lambda a, x, y: x >= y,
    "Identity": lambda a, x: x,
    "Less": lambda a, x, y: x < y,
    "LessOrEqual": lambda a, x, y: x <= y,
    "Log": lambda a, x: x.log(),
    "LogSoftmax": lambda a, x: x.log_softmax(a.get("axis", -1)),
    "Mul": lambda a, x, y: x * y,
    "Neg": lambda a, x: -x,
    "Not": lambda a, x: ~x,
    "Or": lambda a, x, y: x | y,
    "Pow": lambda a, x, y: x**y,
    "Reciprocal": lambda a, x: x.reciprocal(),
    "Relu": lambda a, x: x.relu(),
    "Sigmoid": lambda a, x: x.sigmoid(),
    "Sin": lambda a, x: x.sin(),
    "Softmax": lambda a, x: x.softmax(a.get("axis", -1)),
    "Softplus": lambda a, x: F.softplus(x),
    "Sqrt": lambda a, x: x.sqrt(),
    "Sub": lambda a, x, y: x - y,
    "Swish": lambda a, x: x * (a.get("alpha", 1.0) * x).sigmoid(),
    "Tanh": lambda a, x: x.tanh(),
    "Transpose": lambda a, x: x.permute(a.get("perm", tuple(reversed(range(x.ndim))))),
    "Where": lambda a, c, x, y: torch.where(c, x, y),
}


def operator(name: str) -> Callable[[Operator], Operator]:
    """Register a function under an operator's name."""

    def register(function: Operator) -> Operator:
        OPERATORS[name] = function
        return function

    return register


@operator("Cast")
def cast(a: Attributes, x: Tensor) -> Tensor:
    return x.to(ONNX_TYPES[ir.DataType(a["to"])])


@operator("Concat")
def concat(a: Attributes, *parts: Tensor) -> Tensor:
    return torch.cat(parts, a["axis"])


@operator("Div")
def div(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


@operator("Gather")
def gather(a: Attributes, x: Tensor, index: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    index = torch.where(index < 0, index + x.shape[axis], index)
    taken = x.index_select(axis, index.reshape(-1))
    taken = taken.float() if taken.is_floating_point() else taken  # start of the residual stream
    return taken.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


@operator("LayerNormalization")
def layer_normalization(
    a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    x = x.float()
    y = rms_normalization(a, x - x.mean(_normal_axes(a, x), keepdim=True), scale)
    return y if bias is None else y + bias


@operator("RMSNormalization")
def rms_normalization(a: Attributes, x: Tensor, scale: Tensor) -> Tensor:
    x = x.float()
    mean = x.square().mean(_normal_axes(a, x), keepdim=True)
    return x * torch.rsqrt(mean + a.get("epsilon", 1e-5)) * scale


@operator("Range")
def range_(a: Attributes, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


@operator("ReduceMean")
def reduce_mean(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.mean(_axes(x, axes), keepdim=bool(a.get("keepdims", 1)))


@operator("ReduceSum")
def reduce_sum(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.sum(_axes(x, axes), keepdim=bool(a.get("keepdims", 1)))


@operator("Reshape")
def reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    wanted = shape.tolist()
    if not a.get("allowzero", 0):
        wanted = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    return x.reshape(wanted)


@operator("RotaryEmbedding")
def rotary_embedding(
    a: Attributes, x: Tensor, cos: Tensor, sin: Tensor, ids: Tensor | None = None
) -> Tensor:
    """[B, heads, T, D], or [B, T, heads * D]; cos and sin [B, T, D / 2], or tables with ``ids``."""
    if ids is not None:
        cos, sin = cos[ids], sin[ids]
    flat = x.ndim == 3
    y = x.unflatten(-1, (a["num_heads"], -1)).transpose(1, 2) if flat else x
    width = a.get("rotary_embedding_dim", 0) or y.shape[-1]
    turned, rest = y[..., :width].float(), y[..., width:]
    cos, sin = cos[:, None, :, : width // 2], sin[:, None, :, : width // 2]
    if a.get("interleaved", 0):
        first, second = turned[..., ::2], turned[..., 1::2]
    else:
        first, second = turned.chunk(2, -1)
    pair = (first * cos - second * sin, first * sin + second * cos)
    mixed = torch.stack(pair, -1).flatten(-2) if a.get("interleaved", 0) else torch.cat(pair, -1)
    out = torch.cat([mixed, rest.float()], -1)
    return out.transpose(1, 2).flatten(2) if flat else out


@operator("Shape")
def shape(a: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(x.shape[a.get("start", 0) : a.get("end", None)], dtype=torch.int64)


@operator("Slice")
def slice_(
    a: Attributes,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    which = range(len(starts)) if axes is None else axes.tolist()
    every = [1] * len(starts) if steps is None else steps.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), which, every, strict=True):
        at = range(x.shape[axis])[start:end:step]
        x = x.index_select(axis, torch.tensor(at, dtype=torch.int64))
    return x


@operator("Split")
def split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    each = -(-x.shape[axis] // a["num_outputs"]) if sizes is None else sizes.tolist()
    return tuple(x.split(each, axis))


@operator("Squeeze")
def squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


@operator("Unsqueeze")
def unsqueeze(a: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(d % rank for d in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


@operator("TensorScatter")
def tensor_scatter(a: Attributes, past: Tensor, update: Tensor, at: Tensor | None = None) -> Tensor:
    """A cache [B, ..., S, ...] with new rows along ``axis``, at the same position for all of B."""
    axis = a.get("axis", -2)
    first = 0 if at is None else int(at[0])
    before, end = past.narrow(axis, 0, first), first + update.shape[axis]
    rest = past.narrow(axis, end, past.shape[axis] - end)
    return torch.cat([before, update, rest], axis)


def _normal_axes(a: Attributes, x: Tensor) -> tuple[int, ...]:
    return tuple(range(a.get("axis", -1) % x.ndim, x.ndim))


def _axes(x: Tensor, axes: Tensor | None) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axes is None else tuple(axes.tolist())


def constant(node: ir.Node) -> Tensor:
    """The value of a Constant node."""
    for name, attribute in node.attributes.items():
        if name == "value":
            return torch.from_numpy(attribute.as_tensor().numpy().copy())
        kind = torch.int64 if name.startswith("value_int") else torch.float32
        return torch.tensor(attribute.value, dtype=kind)
    raise LadderError(f"node {node.name}: the Constant node has no value; check the model file")
