"""The tensors of a GGUF checkpoint by the names that transformers' model has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.frontend.gguf.blocks import codes_of, has_equal
from ladder.frontend.gguf.files import values_of
from ladder.frontend.gguf.header import Header, TensorInfo
from ladder.frontend.packed.stored import Stored, StoredTensor
from ladder.ir.codes import Codes

# Tensors that say how positions are computed, not weights of the model.
ROPE = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def stored_tensors(header: Header, module: Any) -> Stored:
    """The tensors of a model, converted as transformers does it. Refuses one without a place."""
    from transformers import modeling_gguf_pytorch_utils as conversion

    architecture = header.metadata["general.architecture"]
    family = conversion.TENSOR_PROCESSORS.get(architecture, conversion.TensorProcessor)
    processor = family(config=module.config.to_dict())
    names = conversion.get_gguf_hf_weights_map(module, processor)
    tensors = {name: info for name, info in header.tensors.items() if name not in ROPE}
    if one_to_one(family):
        _check_names(tensors, names, module)
        return {names[name]: _one(info, processor) for name, info in tensors.items()}
    return _combined(tensors, processor, names, module)


def one_to_one(family: Any) -> bool:
    """Whether each parameter of the model is one tensor of the file, in the same shape."""
    from transformers import modeling_gguf_pytorch_utils as conversion

    return family in (
        conversion.TensorProcessor,
        conversion.LlamaTensorProcessor,
        conversion.NemotronTensorProcessor,
        conversion.Gemma2TensorProcessor,
    )


def _check_names(tensors: Mapping[str, Any], names: Mapping[str, str], module: Any) -> None:
    for name in tensors:
        if name not in names:
            raise LadderError(
                f"{name}: nothing in {type(module).__name__} takes this tensor; this kind of "
                "GGUF file is not supported"
            )


def _one(tensor: TensorInfo, processor: Any) -> StoredTensor:
    def read() -> np.ndarray:
        values = processor.process(weights=values_of(tensor), name=tensor.name).weights
        return np.ascontiguousarray(values)

    def codes() -> Codes:
        return codes_of(tensor).rows(_order(tensor, processor))

    return StoredTensor(tensor.shape, read, codes if has_equal(tensor) else None)


def _order(tensor: TensorInfo, processor: Any) -> np.ndarray:
    """The row of the file that each row of the model is: ``processor`` moves whole rows."""
    numbers = np.arange(tensor.shape[0], dtype=np.int64)[:, None]
    moved: np.ndarray = processor.process(weights=numbers, name=tensor.name).weights
    return moved[:, 0]


def _combined(
    tensors: Mapping[str, TensorInfo], processor: Any, names: Mapping[str, str], module: Any
) -> Stored:
    """The parameters of a family that combines several tensors of the file into one; all in memory.

    The processor puts combined ones into ``made["tensors"]`` itself.
    """
    made: dict[str, dict[str, Any]] = {"tensors": {}}
    for info in tensors.values():
        done = processor.process(
            weights=values_of(info),
            name=info.name,
            tensor_key_mapping=names,
            parsed_parameters=made,
        )
        if done.name is not None:
            _check_names({done.name: info}, names, module)
            made["tensors"][names[done.name]] = done.weights
    return {name: _of_array(np.asarray(values)) for name, values in made["tensors"].items()}


def _of_array(values: np.ndarray) -> StoredTensor:
    return StoredTensor(values.shape, _constant(np.ascontiguousarray(values)))


def _constant(values: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: values
