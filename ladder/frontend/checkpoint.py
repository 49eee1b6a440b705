"""Reads the weights of a checkpoint one at a time, since a model may be larger than memory.

A model is traced with parameters that take no memory. Each weight is read when it is written to the
traced model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError

Stored = Mapping[str, Callable[[], np.ndarray]]
"""Name of a parameter -> a function that reads its values as float32."""


def in_safetensors(folder: Path) -> Stored:
    """The tensors of a folder's safetensors files, by their names in the files."""
    from safetensors import safe_open

    found: dict[str, Callable[[], np.ndarray]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {name: _reader(path, name) for name in file.keys()}
    return found


def _reader(path: Path, name: str) -> Callable[[], np.ndarray]:
    from safetensors import safe_open

    def read() -> np.ndarray:
        with safe_open(path, "pt") as file:
            values: np.ndarray = file.get_tensor(name).float().numpy()
        return values

    return read


def in_gguf(path: Path, module: Any) -> Stored:
    """The tensors of a GGUF file by their names in ``module``, converted as transformers does.

    Empty for an architecture whose parameters combine several tensors of the file.
    """
    from gguf import GGUFReader, dequantize
    from transformers import modeling_gguf_pytorch_utils as conversion

    reader = GGUFReader(path)
    architecture = conversion.read_field(reader, "general.architecture")[0]
    family = conversion.TENSOR_PROCESSORS.get(architecture, conversion.TensorProcessor)
    if family not in (
        conversion.TensorProcessor,
        conversion.LlamaTensorProcessor,
        conversion.NemotronTensorProcessor,
        conversion.Gemma2TensorProcessor,
    ):
        return {}
    processor = family(config=conversion.load_gguf_checkpoint(path)["config"])
    names = conversion.get_gguf_hf_weights_map(module, processor)

    def converted(tensor: Any) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            try:
                values = dequantize(tensor.data, tensor.tensor_type)
            except NotImplementedError as error:
                kind = tensor.tensor_type.name
                raise LadderError(
                    f"{path}: {tensor.name} has type {kind}, which gguf cannot decode; "
                    "convert the file to another type"
                ) from error
            try:
                weights = processor.process(weights=values, name=tensor.name).weights
            except ValueError as error:
                raise LadderError(
                    f"{path}: {tensor.name} does not fit the model's numbers ({error}); "
                    "the file is damaged: fetch it again"
                ) from error
            return np.ascontiguousarray(weights)

        return read

    return {names[t.name]: converted(t) for t in reader.tensors if t.name in names}


def of_parameters(module: Any, stored: Stored) -> Stored | None:
    """The stored tensor of each parameter, by every name of a tied one; None if one is missing."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    found: dict[str, Callable[[], np.ndarray]] = {}
    for tied in names.values():
        known = [stored[name] for name in tied if name in stored]
        if not known:
            return None
        found |= dict.fromkeys(tied, known[0])
    return found


def without_memory(module: Any) -> None:
    """Give the parameters of ``module``, which have no values yet, zeros that take no memory."""
    import torch

    tied: dict[int, Any] = {}
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if id(parameter) not in tied:
                zeros = torch.zeros(()).expand(parameter.shape)
                tied[id(parameter)] = torch.nn.Parameter(zeros, requires_grad=False)
            setattr(part, name, tied[id(parameter)])


def fill(model: ir.Model, stored: Stored) -> None:
    """Set the weights of a traced ``model`` to the checkpoint's tensors with the same names."""
    for name, value in model.graph.initializers.items():
        if value.const_value is None:
            continue
        if name in stored:
            shape, read = value.const_value.shape.numpy(), stored[name]
            value.const_value = ir.LazyTensor(
                lambda read=read, name=name: ir.tensor(read(), name=name),  # type: ignore[misc]
                dtype=ir.DataType.FLOAT,
                shape=ir.Shape(shape),
                name=name,
            )
        elif _is_without_memory(value.const_value):
            raise LadderError(f"{name}: the trace has a parameter that is not in the model")


def _is_without_memory(tensor: ir.TensorProtocol) -> bool:
    strides = getattr(getattr(tensor, "raw", None), "stride", lambda: (1,))()
    return len(strides) > 0 and not any(strides)
