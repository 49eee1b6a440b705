"""Operators that take an index or a position: each is checked before anything is read or written.

ONNX lets most indices count from the end, and has no meaning for those outside their axis. TVM's
loops would read or write there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from tvm import ir, relax, tirx

from ladder.codegen.context import Attributes, Context, shape_of
from ladder.codegen.kernels.indices import inside
from ladder.errors import LadderError

Size = Any  # an int, or an expression of TVM where it is only known at run time


@dataclass(frozen=True)
class Indexed:
    """An operator's input with indices, and the sizes that its last axis is compared with.

    ``wraps`` says whether -1 is the last one.
    """

    place: int
    sizes: Callable[[list[Any], Attributes], Sequence[Size]]
    wraps: bool = True


def _axis(inputs: list[Any], attrs: Attributes) -> Sequence[Size]:
    return (shape_of(inputs[0])[int(attrs.get("axis", 0))],)


def _axes(inputs: list[Any], attrs: Attributes) -> Sequence[Size]:
    """Of the coordinates in the last axis of the indices."""
    first, count = int(attrs.get("batch_dims", 0)), shape_of(inputs[1])[-1]
    return shape_of(inputs[0])[first : first + int(count)]


def _table(at: int) -> Callable[[list[Any], Attributes], Sequence[Size]]:
    return lambda inputs, _attrs: (shape_of(inputs[at])[0],)


def _cache_rows(inputs: list[Any], _attrs: Attributes) -> Sequence[Size]:
    """Of the rows at which so many may be written."""
    return (shape_of(inputs[0])[2] - shape_of(inputs[1])[2] + 1,)


def _unpooled(inputs: list[Any], attrs: Attributes) -> Sequence[Size]:
    """Of all elements of the output, which the indices of a MaxUnpool count."""
    if len(inputs) > 2 and inputs[2] is not None:
        raise LadderError("MaxUnpool with an output shape has no kernel")
    batch, channels, *sizes = shape_of(inputs[0])
    window, spatial = attrs["kernel_shape"], len(sizes)
    pads, strides = attrs.get("pads", [0] * 2 * spatial), attrs.get("strides", [1] * spatial)
    made = [
        (sizes[i] - 1) * strides[i] + window[i] - pads[i] - pads[i + spatial]
        for i in range(spatial)
    ]
    return (prod([batch, channels, *made]),)


def _experts(_inputs: list[Any], attrs: Attributes) -> Sequence[Size]:
    return (int(attrs["n"]) // int(attrs["rows"]),)


SOME_EXPERTS = "ladder.ExpertMatMul.some"  # its numbers are one more, so that 0 is no expert
INDEXED: dict[str, tuple[Indexed, ...]] = {
    "Gather": (Indexed(1, _axis),),
    "GatherElements": (Indexed(1, _axis),),
    "GatherND": (Indexed(1, _axes),),
    "ScatterElements": (Indexed(1, _axis),),
    "ScatterND": (Indexed(1, _axes),),
    "ladder.LowBitGather": (Indexed(0, lambda _inputs, attrs: (int(attrs["n"]),)),),
    "ladder.ExpertMatMul": (Indexed(0, _experts),),
    SOME_EXPERTS: (
        Indexed(0, lambda inputs, attrs: (_experts(inputs, attrs)[0] + 1,), wraps=False),
    ),
    "TensorScatter": (Indexed(2, _cache_rows, wraps=False),),
    "MaxUnpool": (Indexed(1, _unpooled, wraps=False),),
    "RoiAlign": (Indexed(2, _table(0), wraps=False),),
    "EmbedLayerNormalization": (
        Indexed(0, _table(2), wraps=False),
        Indexed(1, _table(4), wraps=False),
        Indexed(8, _table(3), wraps=False),
    ),
}


def with_checked_indices(
    context: Context, operator: str, inputs: list[Any], attrs: Attributes
) -> list[Any]:
    """The inputs of an operator, each of its indices inside its axis, from 0 up and int64."""
    made = list(inputs)
    for indexed in INDEXED.get(operator, ()):
        ids = made[indexed.place] if indexed.place < len(made) else None
        if ids is not None and not isinstance(inputs[0], relax.ShapeExpr):
            where = _where(operator, attrs)
            sizes = indexed.sizes(inputs, attrs)
            made[indexed.place] = _checked(context, ids, sizes, indexed.wraps, where)
    return made


def _where(operator: str, attrs: Attributes) -> str:
    op, name = operator.removeprefix("ladder.LowBit"), attrs.get("tvm_custom", {}).get("name")
    return f"{op} '{name}'" if name else op


def _checked(context: Context, ids: Any, sizes: Sequence[Size], wraps: bool, where: str) -> Any:
    message = _message(sizes, wraps, where)
    if isinstance(ids, relax.ShapeExpr):
        ids = context.builder.normalize(relax.op.shape_to_tensor(ids))
    if isinstance(ids, ir.GenericConst) and all(isinstance(size, int) for size in sizes):
        return relax.const(_constant(ids.value.numpy(), sizes, wraps, message), "int64")
    shape, rank = shape_of(ids), len(sizes)
    rows = prod(shape) // rank
    flat = context.builder.emit(relax.op.reshape(ids, (rows, rank)))
    func = inside(rank, str(ids.ty.dtype), wraps, message)
    made = context.call(func, [flat, _sizes(context, sizes)], [((rows, rank), "int64")])
    return context.builder.emit(relax.op.reshape(made, shape))


def _message(sizes: Sequence[Size], wraps: bool, where: str) -> str:
    known = [str(size) for size in sizes if isinstance(size, int)]
    axis = f"an axis of {' x '.join(known)}" if len(known) == len(sizes) else "its axis"
    return f"{where}: an index is outside {axis}" + (", also counted from the end" if wraps else "")


def _constant(ids: np.ndarray, sizes: Sequence[int], wraps: bool, message: str) -> np.ndarray:
    limits, wide = np.array(sizes, np.int64), ids.astype(np.int64)
    if (wide < (-limits if wraps else 0)).any() or (wide >= limits).any():
        raise LadderError(message)
    return np.where(wide < 0, wide + limits, wide).reshape(ids.shape)  # also of a single index


def _sizes(context: Context, sizes: Sequence[Size]) -> Any:
    if all(isinstance(size, int) for size in sizes):
        return relax.const(np.array(sizes, np.int64), "int64")
    shape = relax.ShapeExpr([tirx.IntImm("int64", s) if isinstance(s, int) else s for s in sizes])
    return context.builder.emit(relax.op.shape_to_tensor(shape))
