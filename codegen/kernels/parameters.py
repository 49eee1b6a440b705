"""Declares the parameters of a PrimFunc from the data of ``signature``."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from tvm import tirx
from tvm.script import tirx as T
from tvm.script.ir_builder import IRBuilder

from ladder.codegen.kernels.signature import Operands, size_of

Arguments = Any  # buffers by the names of their operands; ``size`` has the sizes by their letters


def declare(
    operands: Operands,
    index: str = "int64",
    sizes: Mapping[str, int] | None = None,
    aligned: Mapping[str, int] | None = None,
) -> Arguments:
    """Declare the parameters of the PrimFunc under construction; returns them.

    ``index`` is the type of sizes, ``sizes`` are those that are known, ``aligned`` is the alignment
    of some operands in bytes. An operand that the kernel does not have is still a buffer here, but
    nothing may read it.
    """
    known: dict[str, Any] = dict(sizes or {})
    buffers = {}
    for operand in operands:
        shape = [_size(dim, known, index) for dim in operand.shape]
        if operand.when:
            handle = T.arg(f"{operand.name}_", T.handle())
            align = (aligned or {}).get(operand.name, -1)
            buffer = T.match_buffer(handle, shape, operand.dtype, align=align)
            IRBuilder.name(operand.name, buffer)
        else:
            buffer = tirx.decl_buffer(shape, operand.dtype, operand.name)
        buffers[operand.name] = buffer
    return SimpleNamespace(**buffers, size=SimpleNamespace(**known))


def _size(dim: int | str, known: dict[str, Any], index: str) -> Any:
    """The variable of a letter, the same for all shapes; ``B + 1`` is one more than ``B``."""
    if isinstance(dim, int):
        return dim
    letter = dim.partition(" + ")[0]
    if letter not in known:
        known[letter] = tirx.Var(letter, index)
    return size_of(dim, known)
