"""What converters share: the builder of the function, its kernels, and the shapes of values."""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import relax, s_tir, tirx

from ladder.codegen.kernels.transpose import transpose
from ladder.codegen.layout import LANES
from ladder.errors import LadderError

Attributes = dict[str, Any]
OPAQUE = 8  # TVM's OpPatternKind.kOpaque


class Context:
    """The builder, the kernel family, and the kernels made so far."""

    def __init__(self, builder: relax.BlockBuilder, family: str) -> None:
        self.builder = builder
        self.family = family
        self._kernels: dict[str, Any] = {}

    def call(
        self, func: tirx.PrimFunc, args: list[Any], outputs: list[tuple[tuple[int, ...], str]]
    ) -> Any:
        """Emit ``call_tir``; a kernel of the same name is added to the module once."""
        types = [relax.TensorType(shape, dtype) for shape, dtype in outputs]
        call = relax.call_tir(self._var(func), args, types if len(types) > 1 else types[0])
        return self.builder.emit(call)

    def call_in_place(self, func: tirx.PrimFunc, args: list[Any], which: int) -> Any:
        """Emit ``call_tir_inplace`` whose result is argument ``which``."""
        out = relax.TensorType(shape_of(args[which]), args[which].ty.dtype.dtype)
        return self.builder.emit(relax.op.call_tir_inplace(self._var(func), args, which, out))

    def call_on_state(
        self, func: tirx.PrimFunc, args: list[Any], out: tuple[int, ...], in_place: bool
    ) -> Any:
        """Emit a call of a kernel that reads the state ``args[-1]``: (its output, the state)."""
        types = [relax.TensorType(shape, "float32") for shape in (out, shape_of(args[-1]))]
        if not in_place:
            return self.builder.emit(relax.call_tir(self._var(func), args, types))
        places = [-1, len(args) - 1]
        return self.builder.emit(relax.op.call_tir_inplace(self._var(func), args, places, types))

    def _var(self, func: tirx.PrimFunc) -> Any:
        name = str(func.attrs["global_symbol"])
        if name not in self._kernels:
            self._kernels[name] = self.builder.add_func(with_root(func), name)
        return self._kernels[name]

    def flat(self, x: Any, columns: int) -> Any:
        """x [..., columns] as [M, columns]."""
        shape = (prod(shape_of(x)[:-1]), columns)
        return x if shape_of(x) == shape else self.builder.emit(relax.op.reshape(x, shape))

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        return x if shape_of(x) == shape else self.builder.emit(relax.op.reshape(x, shape))

    def transposed(self, x: Any, axes: tuple[int, ...]) -> Any:
        """x with its axes in another order; a reshape, which is free, where that is the same."""
        shape = shape_of(x)
        moved = tuple(shape[axis] for axis in axes)
        if is_reshape(shape, axes):
            return self.reshape(x, moved)
        if is_matrix(shape, axes) and x.ty.dtype.dtype == "float32":
            rows, columns = (size for size in shape if size != 1)
            flat = self.reshape(x, (rows, columns))
            made = self.call(transpose(rows, columns), [flat], [((columns, rows), "float32")])
            return self.reshape(made, moved)
        return self.builder.emit(relax.op.permute_dims(x, list(axes)))


def is_reshape(shape: tuple[Any, ...], axes: tuple[int, ...]) -> bool:
    """Whether a transpose only moves axes of size 1."""
    moved = [axis for axis in axes if shape[axis] != 1]
    return moved == sorted(moved)


def is_matrix(shape: tuple[Any, ...], axes: tuple[int, ...]) -> bool:
    """Whether a transpose swaps two long axes and all others have size 1."""
    moved = [axis for axis in axes if shape[axis] != 1]
    if len(moved) != 2 or moved == sorted(moved):
        return False
    return all(isinstance(shape[axis], int) and shape[axis] >= LANES for axis in moved)


def with_root(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A kernel as Relax's passes expect it: in a root block, and marked not to be fused."""
    root = s_tir.SBlock([], [], [], "root", func.body)
    return func.with_body(s_tir.SBlockRealize([], True, root)).with_attr("op_pattern", OPAQUE)


def shape_of(x: Any) -> tuple[Any, ...]:
    """The sizes of a value; those that are only known at run time stay expressions."""
    return tuple(int(d) if isinstance(d, tirx.IntImm) else d for d in x.ty.shape)


def several(m: Any) -> bool:
    """Whether there may be several tokens."""
    return not isinstance(m, int) or m > 1


def no_kernel(what: str) -> LadderError:
    return LadderError(
        f"{what} has no kernel; 'ladder quantize' writes an ONNX file for ONNX Runtime instead"
    )
