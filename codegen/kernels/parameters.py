"""The parameters of a PrimFunc, declared from the data of ``signature``."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from tvm import tirx
from tvm.script import tirx as T
from tvm.script.ir_builder import IRBuilder

from ladder.codegen.kernels.signature import Operands, size_of

Arguments = Any  # buffers by the names of their operands; ``size``: sizes by their letters


def declare(
    operands: Operands,
    index: str = "int64",
    sizes: Mapping[str, int] | None = None,
    aligned: Mapping[str, int] | None = None,
) -> Arguments:
    """Give the PrimFunc that is being written its parameters; returns them.

    ``index`` is the type of sizes, ``sizes`` those that are known, ``aligned`` the bytes that some
    operands begin at multiples of. An operand that the kernel does not have is a buffer all the
    same, which nothing may read.
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
    """A letter's variable, the same wherever it stands; ``B + 1`` is one more than ``B``."""
    if isinstance(dim, int):
        return dim
    letter = dim.partition(" + ")[0]
    if letter not in known:
        known[letter] = tirx.Var(letter, index)
    return size_of(dim, known)
