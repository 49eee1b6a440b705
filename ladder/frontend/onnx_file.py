"""Loads ONNX files: lazily, with external data mapped into memory, and checked first."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.external_data import set_base_dir
from onnx_ir.passes.common import RemoveInitializersFromInputsPass

from ladder.errors import LadderError, one_line
from ladder.frontend.onnx_check import check_graph, tensors_of
from ladder.frontend.onnx_proto import inline_weights, plain
from ladder.frontend.standard_recurrence import convert_recurrent
from ladder.frontend.types import Source, states_of

OLDEST_OPSET = 11
INPUTS_SINCE = 4  # the IR version from which on a weight need not be an input as well


def load_onnx(path: Path) -> Source:
    """Read an ONNX file. Weights in external files stay on disk until they are used."""
    model, notes = _parse(path)
    check_graph(model, path)
    _check_external(model, path)
    opset = model.graph.opset_imports.get("", 0)
    if opset and opset < OLDEST_OPSET:
        raise LadderError(
            f"{path}: opset {opset} is older than {OLDEST_OPSET}; "
            "convert it with onnx.version_converter first"
        )
    digest = _digest(path, model)
    convert_recurrent(model)
    notes += [*inline_weights(model), *_fix_weights(model)]
    return Source(model, str(path), digest, notes=notes, states=states_of(model))


def _parse(path: Path) -> tuple[ir.Model, list[str]]:
    """The model, with notes on what was changed to read it."""
    if not path.is_file():
        raise LadderError(f"{path}: no such file; give an ONNX file")
    try:
        proto = onnx.load(path, load_external_data=False)
        notes = plain(proto)
        model: ir.Model = ir.from_proto(proto)
        set_base_dir(model.graph, path.parent)
    except OSError as error:
        raise LadderError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:
        raise LadderError(
            f"{path}: not a readable ONNX file ({_first_line(error)}); "
            "it may be truncated: fetch it again"
        ) from error
    if model.graph.num_nodes() == 0 and not model.graph.outputs:
        raise LadderError(f"{path}: an empty graph: it may be truncated; fetch it again")
    return model, notes


def _fix_weights(model: ir.Model) -> list[str]:
    """Make weights that are also graph inputs constant: an input could be replaced at run time."""
    given = [v.name or "" for v in model.graph.inputs if v.name in model.graph.initializers]
    if not given:
        return []
    RemoveInitializersFromInputsPass()(model)
    model.ir_version = max(model.ir_version, INPUTS_SINCE)
    shown = ", ".join(given[:3]) + (", ..." if len(given) > 3 else "")
    return [f"weights that were also graph inputs are now constants: {shown}"]


def _check_external(model: ir.Model, path: Path) -> None:
    for tensor in tensors_of(model):
        if isinstance(tensor, ir.ExternalTensor):
            try:
                _check_external_tensor(tensor, path)
            except LadderError:
                raise
            except Exception as error:  # a name that no file can have
                raise LadderError(
                    f"{path}: weight '{tensor.name}' is in {tensor.location!r:.60}, which cannot "
                    f"be read: {one_line(error)}"
                ) from error


def _check_external_tensor(tensor: ir.ExternalTensor, path: Path) -> None:
    data = Path(tensor.path)
    # onnx_ir checks it when a weight is read, and not where the model has no folder in its path.
    if not _is_within(data, path):
        raise LadderError(
            f"{path}: weight '{tensor.name}' is in {tensor.location}, outside the model's folder; "
            "put the external data file next to the model"
        )
    if not data.is_file():
        raise LadderError(
            f"{path}: weight '{tensor.name}' is in {data.name}, which is missing; "
            "put the external data file next to the model"
        )
    if data.stat().st_nlink > 1:  # it may be a file of elsewhere: onnx_ir refuses to read it
        raise LadderError(
            f"{path}: weight '{tensor.name}' is in {data.name}, which has other hard links; "
            "copy the external data file"
        )
    end = (tensor.offset or 0) + (tensor.length or tensor.nbytes)
    if data.stat().st_size < end:
        raise LadderError(
            f"{data}: external data ends at byte {data.stat().st_size}, "
            f"but weight '{tensor.name}' reaches to {end}: it is truncated; fetch it again"
        )


def _is_within(data: Path, path: Path) -> bool:
    """Whether data is in the folder of the model in ``path``, by its name and where links lead."""
    named = Path(os.path.abspath(data)).is_relative_to(os.path.abspath(path.parent))
    return named and data.resolve().is_relative_to(path.parent.resolve())


def file_digest(*paths: Path) -> str:
    """SHA-256 of the contents of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()


def _digest(path: Path, model: ir.Model) -> str:
    """Digest of the file's content; external data, which may be huge, by name, size and time."""
    digest = hashlib.sha256(file_digest(path).encode())
    external = (tensor for tensor in tensors_of(model) if isinstance(tensor, ir.ExternalTensor))
    for name in sorted({str(tensor.path) for tensor in external}):
        found = Path(name).stat()
        digest.update(f"{name} {found.st_size} {found.st_mtime_ns}".encode())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__


def check(model: onnx.ModelProto) -> None:
    """Run ONNX's full check, with strict inference of shapes and types."""
    onnx.checker.check_model(model, full_check=True)
