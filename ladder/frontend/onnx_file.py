"""ONNX files: loaded lazily, external data memory-mapped, checked before anything is done."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.frontend.source import Source

OLDEST_OPSET = 11


def load_onnx(path: Path) -> Source:
    """Read an ONNX file. Weights in external files stay on disk until they are used."""
    model = _parse(path)
    _check_external(model, path)
    opset = model.graph.opset_imports.get("", 0)
    if opset and opset < OLDEST_OPSET:
        raise LadderError(
            f"{path}: opset {opset} is older than {OLDEST_OPSET}; "
            "convert it with onnx.version_converter first"
        )
    return Source(model, str(path), file_digest(path))


def _parse(path: Path) -> ir.Model:
    try:
        model = ir.load(path)
    except Exception as error:
        raise LadderError(
            f"{path}: not a readable ONNX file ({_first_line(error)}); "
            "it may be truncated: fetch it again"
        ) from error
    if model.graph.num_nodes() == 0 and not model.graph.outputs:
        raise LadderError(f"{path}: an empty graph: it may be truncated; fetch it again")
    return model


def _check_external(model: ir.Model, path: Path) -> None:
    for graph in [model.graph, *model.graph.subgraphs()]:
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                _check_external_tensor(tensor, path)


def _check_external_tensor(tensor: ir.ExternalTensor, path: Path) -> None:
    data = Path(tensor.path)
    if not data.exists():
        raise LadderError(
            f"{path}: weight '{tensor.name}' is in {data.name}, which is missing; "
            "put the external data file beside the model"
        )
    end = (tensor.offset or 0) + (tensor.length or 0)
    if data.stat().st_size < end:
        raise LadderError(
            f"{data}: external data ends at byte {data.stat().st_size}, "
            f"but weight '{tensor.name}' reaches to {end}: it is truncated; fetch it again"
        )


def file_digest(*paths: Path) -> str:
    """SHA-256 over the contents of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__


def check(model: onnx.ModelProto) -> None:
    """Full ONNX check: shapes and types inferred strictly."""
    onnx.checker.check_model(model, full_check=True)
