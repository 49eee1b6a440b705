"""Which operators a low-bit weight becomes in a file, and what to expect of them."""

from __future__ import annotations

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.export import bnb4, decode, nbits
from ladder.ir.dtype import DType

AUTO, QDQ, NBITS = "auto", "qdq", "nbits"
FORMATS = (AUTO, QDQ, NBITS)
SPEED, PORTABILITY = "speed", "portability"
PURPOSES = (SPEED, PORTABILITY)


def check_format(format: str, purpose: str = SPEED) -> None:
    """Refuse unknown words."""
    for what, value, known in (("format", format, FORMATS), ("--for", purpose, PURPOSES)):
        if value not in known:
            raise LadderError(f"unknown {what} '{value}'; one of: {', '.join(known)}")


def chosen(
    format: str,
    purpose: str,
    op: str,
    dtype: DType,
    k: int,
    kind: ir.DataType = ir.DataType.FLOAT,
    accuracy_level: int = 0,
) -> str:
    """``qdq`` or ``nbits`` for an operator (MatMul, Gemm, Gather, Conv) over a type, in a model of
    ``kind``.

    ``auto`` takes the form that ONNX Runtime runs fastest with the same meaning, or standard
    operators only if it is for portability.
    """
    if format != AUTO:
        return format
    own = purpose == SPEED and nbits.refuse(op, dtype, k) is None
    own = own and nbits.runs_in(op, dtype, kind)
    return NBITS if own and _is_fast(op, dtype, accuracy_level) else QDQ


def _is_fast(op: str, dtype: DType, accuracy_level: int) -> bool:
    """Whether ONNX Runtime has a fast kernel for its operator, and not only the operator.

    Its float products over 2 and 8 bits decode the weight at every call, more slowly than
    DequantizeLinear does. Those with integer activations (an accuracy_level) are fast.
    """
    if op == "Gather" or bnb4.takes(dtype):
        return True
    return nbits.width(dtype) == 4 or accuracy_level > 0


def form(name: str, op: str, dtype: DType) -> str:
    """The operators of the form ``qdq`` or ``nbits``, as text for reports."""
    return nbits.operator(op, dtype) if name == NBITS else decode.form(dtype)


def effect(how: str, op: str, dtype: DType, accuracy_level: int = 0) -> str:
    """What to expect of the form ``how`` in ONNX Runtime, as text for reports."""
    if how == NBITS and op == "Gather":
        return "only the rows that are looked up are decoded"
    if how == NBITS and accuracy_level:
        return "activations are rounded to int8 in blocks: faster than float, an error of about 1 %"
    if how == NBITS and _is_fast(op, dtype, 0):
        return "faster than float for a few tokens, about as fast for many"
    if how == NBITS:
        return "its weights are decoded at every call, more slowly than by DequantizeLinear"
    if op == "Conv":
        return "smaller only: the weight is decoded at every call"
    if op == "Gather":
        return "the whole table is decoded at every call"
    if decode.form(dtype) == decode.DEQUANTIZE and not isinstance(dtype.group, int):
        return "the weight is decoded at every call: somewhat slower than float"
    return "the weight is decoded at every call: slower than float, several times for a few tokens"
