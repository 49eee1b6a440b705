"""Export the IR after rounding to a file that stock ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.export import forms, nbits, qdq, rounded
from ladder.export.emit import Emitter
from ladder.export.forms import AUTO, NBITS, PORTABILITY, QDQ, SPEED
from ladder.export.opset import raise_opset
from ladder.export.save import save
from ladder.export.weights import Weight, find_weights, original_op, site_of
from ladder.ir import dialect, facts
from ladder.ir.activation import FLOAT, WITH_ZERO_POINT, check_file_mode, parse_mode
from ladder.ir.dtype import DType
from ladder.ir.names import Names
from ladder.ir.site import BIAS_KEY


@dataclass(frozen=True)
class FileForm:
    """How a file is written.

    ``format``: ``qdq`` uses standard operators, ``nbits`` operators of ONNX Runtime, ``auto`` for
    each site what ``purpose`` asks for (``speed`` or ``portability``). ``accuracy_level`` is the
    attribute of MatMulNBits; 0 keeps activations in float. With an integer ``activation`` mode,
    products are MatMulInteger, with the same integers as in compiled kernels.
    """

    format: str = QDQ
    purpose: str = SPEED
    accuracy_level: int = 0
    activation: str = FLOAT

    def check(self) -> None:
        """Refuse unknown words, and an activation mode that the format does not have."""
        forms.check_format(self.format, self.purpose)
        if self.mode == FLOAT:
            return
        if self.mode not in WITH_ZERO_POINT:
            parse_mode(self.mode)
        if self.format == NBITS:
            raise LadderError(
                f"--activation {self.activation} needs --format {AUTO} or {QDQ}, not {NBITS}"
            )

    @property
    def mode(self) -> str:
        """The short text of the activation mode."""
        return check_file_mode(self.activation)

    def of(self, op: str, dtype: DType, k: int, kind: ir.DataType = ir.DataType.FLOAT) -> str:
        """``qdq`` or ``nbits``, for a weight that is not multiplied in integers."""
        level = self.accuracy_level
        return forms.chosen(self.format, self.purpose, op, dtype, k, kind, level)

    def text(self, op: str, dtype: DType, k: int, kind: ir.DataType = ir.DataType.FLOAT) -> str:
        """The operators that a MatMul, Gemm, Gather or Conv over this type becomes."""
        return rounded.form(self.mode, op, dtype, k, kind) or forms.form(
            self.of(op, dtype, k, kind), op, dtype
        )

    def effect(self, op: str, dtype: DType, k: int, kind: ir.DataType = ir.DataType.FLOAT) -> str:
        """What to expect of that form in ONNX Runtime."""
        how = rounded.form(self.mode, op, dtype, k, kind)
        if how is not None:
            return rounded.effect(self.mode, how)
        return forms.effect(self.of(op, dtype, k, kind), op, dtype, self.accuracy_level)


def export_onnx(
    model: ir.Model,
    target: Path,
    how: FileForm = FileForm(),
    check: Callable[[Path], None] = lambda _: None,
    original: Path | None = None,
) -> int:
    """Rewrite ``model`` in place, save it and return the bytes on disk. ``check`` may refuse it."""
    rewrite(model, how)
    model.metadata_props[facts.METADATA_KEY] = facts.to_json(model)
    return save(model, target, check, original)


def rewrite(model: ir.Model, how: FileForm) -> None:
    """Replace the dialect's nodes by operators that ONNX Runtime has, in place."""
    how.check()
    _refuse_lowered(model)
    if how.mode != FLOAT:
        rounded.write_rounded(model, how.mode, how.purpose == PORTABILITY)
    _write_weights(model, how)
    for node in model.graph.all_nodes():
        node.metadata_props.pop(BIAS_KEY, None)
    model.graph.opset_imports.pop(dialect.DOMAIN, None)
    dialect.install(model)  # recurrent operators stay: their functions are in the file


def _write_weights(model: ir.Model, how: FileForm) -> None:
    """Raise the opset if standard forms need that, and write every weight in its form."""
    parts = list(_parts(model, how))
    for weight, name in parts:
        for node in weight.users if name == NBITS else ():
            k, kind = weight.shape[1], weight.kind
            nbits.check(site_of(node), original_op(node), weight.dtype, k, kind)
    raise_opset(model, qdq.needed_opset(weight for weight, name in parts if name == QDQ))
    names, opset = Names(model), model.graph.opset_imports.get("", 1)
    unsigned = qdq.quantizes_activations(model)
    for weight, name in list(_parts(model, how)):
        kind = weight.kind if weight.kind != ir.DataType.DOUBLE else ir.DataType.FLOAT
        emit = Emitter(weight, names, opset, kind, unsigned)
        if name == NBITS:
            nbits.rewrite(emit, how.accuracy_level)
            model.graph.opset_imports[nbits.DOMAIN] = nbits.VERSION
        else:
            qdq.rewrite(emit)


def _parts(model: ir.Model, how: FileForm) -> Iterator[tuple[Weight, str]]:
    """Every weight with its form; one whose users have different forms comes once for each."""
    for weight in find_weights(model):
        by_form: dict[str, list[ir.Node]] = {}
        for node in weight.users:
            name = how.of(original_op(node), weight.dtype, weight.shape[1], weight.kind)
            by_form.setdefault(name, []).append(node)
        for name, users in by_form.items():
            yield replace(weight, users=users), name


def _refuse_lowered(model: ir.Model) -> None:
    for node in model.graph.all_nodes():
        if dialect.is_lowered(node.domain, node.op_type):
            raise LadderError(
                f"node {node.name}: {node.op_type} is already lowered to a kernel; "
                "export before the pass lower-types"
            )
