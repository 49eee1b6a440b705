"""Export the IR after rounding to a file that stock ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.export import decode, nbits
from ladder.export.integers import FORM, to_integers
from ladder.export.nbits import to_nbits
from ladder.export.qdq import to_qdq
from ladder.export.save import save
from ladder.ir import dialect, facts
from ladder.ir.activation import FLOAT, parse_mode
from ladder.ir.dtype import DType
from ladder.ir.site import BIAS_KEY

FORMATS = ("qdq", "nbits")


def export_onnx(
    model: ir.Model,
    target: Path,
    format: str = "qdq",
    accuracy_level: int = 0,
    activation: str = FLOAT,
    check: Callable[[Path], None] = lambda _: None,
    original: Path | None = None,
) -> int:
    """Rewrite ``model`` in place, save it and return the bytes on disk. ``check`` may refuse it.

    ``qdq`` uses standard operators, ``nbits`` operators of ONNX Runtime. ``accuracy_level`` is the
    attribute of MatMulNBits; 0 keeps activations in float. With an integer ``activation`` mode,
    products are MatMulInteger, with the same integers as in compiled kernels.
    """
    rewrite(model, format, accuracy_level, activation)
    model.metadata_props[facts.METADATA_KEY] = facts.to_json(model)
    return save(model, target, check, original)


def rewrite(model: ir.Model, format: str, accuracy_level: int = 0, activation: str = FLOAT) -> None:
    """Replace the dialect's nodes by operators that ONNX Runtime has, in place."""
    if format not in FORMATS:
        raise LadderError(f"unknown format '{format}'; one of: {', '.join(FORMATS)}")
    check_activation(format, activation)
    _refuse_lowered(model)
    if activation != FLOAT:
        to_integers(model, activation)
    if format == "nbits":
        to_nbits(model, accuracy_level)
    else:
        to_qdq(model)
    for node in model.graph.all_nodes():
        node.metadata_props.pop(BIAS_KEY, None)
    model.graph.opset_imports.pop(dialect.DOMAIN, None)
    dialect.install(model)  # recurrent operators stay: their functions are in the file


def check_activation(format: str, activation: str) -> None:
    """Refuse an activation mode that this format does not have."""
    if activation != FLOAT:
        parse_mode(activation)
        if format != "qdq":
            raise LadderError(f"--activation {activation} needs --format qdq, not {format}")


def form(format: str, op: str, dtype: DType, activation: str = FLOAT) -> str:
    """The operators that a MatMul, Gemm or Gather over this type becomes, as text for reports."""
    if activation != FLOAT and op in ("MatMul", "Gemm"):
        return FORM
    return nbits.operator(op, dtype) if format == "nbits" else decode.form(dtype)


def _refuse_lowered(model: ir.Model) -> None:
    for node in model.graph.all_nodes():
        if dialect.is_lowered(node.domain, node.op_type):
            raise LadderError(
                f"node {node.name}: {node.op_type} is already lowered to a kernel; "
                "export before the pass lower-types"
            )
