"""Write an ONNX file aside, check it, then put it in place."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from ladder.errors import LadderError

LARGEST_INLINE = 1_900_000_000  # protobuf ends at 2 GB
SMALLEST_EXTERNAL = 1024


def save(model: ir.Model, target: Path) -> int:
    """Save and return the bytes on disk; a model over 1.9 GB gets its weights in TARGET.data.

    The file passes ONNX's full check before it takes its name. Nothing is left half-written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            aside = Path(folder) / target.name
            files = _write(model, aside)
            _check(aside)
            size = sum(file.stat().st_size for file in files)
            for file in files:
                os.replace(file, target.parent / file.name)
            return size
    except OSError as error:
        raise LadderError(_explain(error, target)) from error


def _write(model: ir.Model, aside: Path) -> list[Path]:
    """The files written, the model last: it must never name data that is not there yet."""
    if _bytes(model) <= LARGEST_INLINE:
        _load(model)
        ir.save(model, aside)
        return [aside]
    data = aside.with_name(aside.name + ".data")
    ir.save(model, aside, external_data=data.name, size_threshold_bytes=SMALLEST_EXTERNAL)
    return [data, aside]


def _initializers(model: ir.Model) -> Iterator[ir.Value]:
    for graph in [model.graph, *model.graph.subgraphs()]:
        yield from graph.initializers.values()


def _load(model: ir.Model) -> None:
    """Take weights out of files. onnx_ir's own way closes maps that other models may still read."""
    for value in _initializers(model):
        if isinstance(tensor := value.const_value, ir.ExternalTensor):
            value.const_value = ir.Tensor(tensor.numpy().copy(), tensor.dtype, name=tensor.name)


def _bytes(model: ir.Model) -> int:
    tensors = [value.const_value for value in _initializers(model)]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _check(file: Path) -> None:
    try:
        onnx.checker.check_model(str(file), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        line = str(error).strip().splitlines()[0][:200]
        raise LadderError(f"the quantized model does not pass ONNX's checker: {line}") from error


def _explain(error: OSError, target: Path) -> str:
    if error.errno == errno.ENOSPC:
        return f"{target}: the disk is full; nothing was written: free some space"
    return f"{target}: cannot be written ({error.strerror or error}); nothing was written"
