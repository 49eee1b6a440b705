"""Save an ONNX file: write a temporary file, check it, then rename it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.support.files import followed, put_file, work_folder

LARGEST_INLINE = 1_900_000_000  # protobuf has a limit of 2 GB
SMALLEST_EXTERNAL = 1024
FAULTS = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)


def save(
    model: ir.Model, target: Path, check: Callable[[Path], None], original: Path | None = None
) -> int:
    """Save, and return the size on disk. Weights of a model over 1.9 GB go to TARGET.data.

    The file must pass ONNX's full check, unless ``original`` does not either, and ``check``, which
    gets its temporary name, before it gets its name. No partial file is left.
    """

    def checked(aside: Path) -> None:
        _check(aside, original)
        check(aside)

    return write_model(model, target, checked)


def write_model(
    model: ir.Model, target: Path, check: Callable[[Path], None] = lambda aside: None
) -> int:
    """The same without ONNX's check, which does not know every stage of the IR."""
    try:
        place = followed(target)  # where data is looked for next to the model
        place.parent.stat()  # it is not made
        with work_folder(target) as folder:
            aside = folder / place.name
            files = _write(model, aside)
            check(aside)
            size = sum(file.stat().st_size for file in files)
            for file in files:
                put_file(file, place.with_name(file.name))
            return size
    except OSError as error:
        raise LadderError(_explain(error, target)) from error


def _write(model: ir.Model, aside: Path) -> list[Path]:
    """Write the files and return them, the model last, since it names the data."""
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
    """Load external weights. onnx_ir's function would close maps that other models still read."""
    for value in _initializers(model):
        if isinstance(tensor := value.const_value, ir.ExternalTensor):
            value.const_value = ir.Tensor(tensor.numpy().copy(), tensor.dtype, name=tensor.name)


def _bytes(model: ir.Model) -> int:
    tensors = [value.const_value for value in _initializers(model)]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _check(file: Path, original: Path | None) -> None:
    try:
        onnx.checker.check_model(str(file), full_check=True)
    except FAULTS as error:
        if original is not None and not _passes(original):
            return
        line = str(error).strip().splitlines()[0][:200]
        raise LadderError(f"the quantized model does not pass ONNX's checker: {line}") from error


def _passes(file: Path) -> bool:
    try:
        onnx.checker.check_model(str(file), full_check=True)
    except FAULTS:
        return False
    return True


def _explain(error: OSError, target: Path) -> str:
    if error.errno == errno.ENOSPC:
        return f"{target}: the disk is full; nothing was written: free some space"
    return f"{target}: cannot be written ({error.strerror or error}); nothing was written"
