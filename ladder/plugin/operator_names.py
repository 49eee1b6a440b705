"""The names of the operators of ``ladder.plugin.operators`` in Relax and in the dialect."""

from __future__ import annotations

from typing import Any

from tvm import relax

MATMUL, GATHER = "ladder.low_bit_matmul", "ladder.low_bit_gather"
ATTENTION = "ladder.attention"
OF_DIALECT = {"LowBitMatMul": MATMUL, "LowBitGather": GATHER}
IN_DIALECT = {name: op for op, name in OF_DIALECT.items()}


def is_low_bit(expr: Any) -> bool:
    """Whether ``expr`` calls one of the operators."""
    return isinstance(expr, relax.Call) and getattr(expr.op, "name", "") in IN_DIALECT
