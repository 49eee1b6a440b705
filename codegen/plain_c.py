"""PrimFuncs as plain C functions of pointers and sizes, which do not need TVM's runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm

from ladder.codegen.kernels.signature import Operands

# TVM wraps functions of the default convention (0) for calls by its own runtime; it compiles
# others as they are.
PACKED_ALREADY = 1
C_TYPES = {
    "int8": "int8_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "float32": "float",
}


@dataclass(frozen=True)
class CFunction:
    """A function's name, its buffers (name, element type, shape as text) and its sizes."""

    name: str
    buffers: tuple[tuple[str, str, tuple[str, ...]], ...]
    sizes: tuple[tuple[str, str], ...]
    written: frozenset[str]

    @property
    def prototype(self) -> str:
        """Its declaration in C, with the shapes above it."""
        shapes = [f"{name} [{', '.join(shape)}]" for name, _, shape in self.buffers]
        pointers = [
            f"{'' if name in self.written else 'const '}{C_TYPES[kind]} *{name}"
            for name, kind, _ in self.buffers
        ]
        numbers = [f"{C_TYPES[kind]} {name}" for name, kind in self.sizes]
        arguments = ",\n    ".join([*pointers, ", ".join(numbers)])
        return f"/* {', '.join(shapes)} */\nvoid {self.name}(\n    {arguments});\n"


def plain_c(func: Any, operands: Operands) -> tuple[Any, CFunction]:
    """``func`` with a pointer for each of its ``operands``, then the sizes in their shapes."""
    buffers = list(func.params)
    sizes: dict[str, Any] = {}
    for buffer in buffers:
        for dim in buffer.shape:
            if isinstance(dim, tvm.tirx.Var):
                sizes.setdefault(dim.name, dim)
    pointers = [_pointer(buffer) for buffer in buffers]
    views = [
        tvm.tirx.DeclBuffer(buffer, data=pointer)
        for buffer, pointer in zip(buffers, pointers, strict=True)
    ]
    body = tvm.tirx.SeqStmt([*views, func.body])
    made = tvm.tirx.PrimFunc([*pointers, *sizes.values()], body, func.ret_type, func.attrs)
    described = CFunction(
        str(func.attrs["global_symbol"]),
        tuple((b.name, str(b.dtype), tuple(str(d) for d in b.shape)) for b in buffers),
        tuple((name, str(var.ty.dtype)) for name, var in sizes.items()),
        frozenset(operand.name for operand in operands if operand.written),
    )
    return made.with_attr("calling_conv", PACKED_ALREADY), described


def _pointer(buffer: Any) -> Any:
    kind = tvm.ir.PointerType(tvm.ir.PrimType(str(buffer.dtype)))
    return tvm.tirx.Var(f"{buffer.name}_at", kind)
