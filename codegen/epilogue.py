"""Additions in a product's store: what a kernel writes, plus operands at the same index."""

from __future__ import annotations

from functools import cache
from typing import Any

import tvm
from tvm import tirx
from tvm_ffi import WalkResult, structural_map, structural_walk

BIAS, RESIDUAL = "bias", "residual"  # [N], or [M, N] like the output


@cache
def with_addends(func: Any, kinds: tuple[str, ...]) -> Any:
    """``func`` with operands before its output [M, N], added in this order to what it stores.

    Every addition is rounded, as in a separate Add. None if ``func`` does more with its output
    than store to it, since it may keep partial sums there.
    """
    *operands, out = func.params
    m, n = out.shape
    shapes = {BIAS: (n,), RESIDUAL: (m, n)}
    addends = [
        tirx.decl_buffer(shapes[kind], out.dtype, f"{kind}{i}") for i, kind in enumerate(kinds)
    ]
    if not _only_stored(func.body, out):
        return None

    def add(store: Any) -> Any:
        if not store.buffer.same_as(out):
            return store
        value = store.value
        for addend in addends:
            value = value + tirx.BufferLoad(addend, store.indices[-len(addend.shape) :])
        return tirx.stmt.BufferStore(out, value, store.indices)

    body = structural_map(func.body, (tirx.stmt.BufferStore, add))
    name = "_".join([str(func.attrs["global_symbol"]), *kinds])
    made = tirx.PrimFunc([*operands, *addends, out], body, func.ret_type, func.attrs)
    return made.with_attr("global_symbol", name)


def _only_stored(body: Any, buffer: Any) -> bool:
    """Whether every use of ``buffer`` is a store to it."""
    mentions, stores = [], []

    def mention(var: Any) -> WalkResult:
        mentions.extend([var] if var.same_as(buffer) else [])
        return WalkResult.ADVANCE

    def store(statement: Any) -> WalkResult:
        stores.extend([statement] if statement.buffer.same_as(buffer) else [])
        return WalkResult.ADVANCE

    structural_walk(body, [(tvm.ir.Var, mention), (tirx.stmt.BufferStore, store)])
    return len(mentions) == len(stores)
