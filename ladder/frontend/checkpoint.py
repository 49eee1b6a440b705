"""Reads the weights of a checkpoint one at a time, since a model may be larger than memory.

A model is traced with parameters that take no memory. Each weight is read when it is written to the
traced model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.frontend.packed.stored import Stored, StoredTensor

# What older versions of transformers saved, and newer ones compute.
COMPUTED = (r"rotary_emb\.inv_freq$", r"(^|\.)position_ids$")


@dataclass(frozen=True)
class Matched:
    """The checkpoint's tensor of each tensor of a model, by every name of a tied one.

    ``missing`` are the tensors of the model that it does not have under their own names, ``unused``
    those of the checkpoint that the model does not have.
    """

    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def match(module: Any, stored: Stored) -> Matched:
    """Find the stored tensor of each parameter and persistent buffer of ``module``.

    Refuses, by name, a tensor of another shape or of a dtype without a rule, and one that is
    stored twice with different values.
    """
    found = Matched()
    for names, wanted in _tied(module):
        known = [name for name in names if name in stored]
        if known:
            _check(known, wanted, stored)
            found.tensors.update(dict.fromkeys(names, stored[known[0]]))
        else:
            found.missing.append(names[0])
    ignored = (*COMPUTED, *(module._keys_to_ignore_on_load_unexpected or ()))
    found.unused.extend(
        name
        for name in stored
        if name not in found.tensors and not any(re.search(pattern, name) for pattern in ignored)
    )
    return found


def _tied(module: Any) -> Iterable[tuple[list[str], Any]]:
    """The names of each tensor that a checkpoint of ``module`` holds, and the tensor."""
    found: dict[int, tuple[list[str], Any]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), ([], tensor))[0].append(name)
    return found.values()


def _check(names: list[str], wanted: Any, stored: Stored) -> None:
    for name in names:
        tensor = stored[name]
        if tensor.shape != tuple(wanted.shape):
            raise LadderError(
                f"{name}: stored with shape {list(tensor.shape)}, and the configuration wants "
                f"{list(wanted.shape)}; config.json does not belong to these weights"
            )
        if tensor.problem and wanted.is_floating_point():
            raise LadderError(f"{name}: {tensor.problem}")
    first, *others = names
    for name in others:
        if not np.array_equal(stored[first].read(), stored[name].read()):
            raise LadderError(
                f"{first} and {name} are stored with different values, and the configuration says "
                "that they are one tensor; set tie_word_embeddings to false"
            )


def check_unused(module: Any, unused: Iterable[str]) -> list[str]:
    """A note about tensors that the model does not use.

    Refuses one of a module that the model has: the configuration says something else about it.
    """
    parts = {name for name, _ in module.named_modules() if name}
    rest = list(unused)
    for name in rest:
        if name.rpartition(".")[0] in parts:
            raise LadderError(
                f"{name}: in the checkpoint, but {type(module).__name__} with this configuration "
                "has no such tensor; config.json does not belong to these weights"
            )
    if not rest:
        return []
    return [f"{len(rest)} tensors of the checkpoint are not of this model ({rest[0]}, ...)"]


def fill_buffers(module: Any, stored: Mapping[str, StoredTensor]) -> None:
    """Give the persistent buffers of ``module`` their values; they are small."""
    import torch

    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.nn.Parameter):
            tensor.data = torch.from_numpy(stored[name].read()).to(tensor.dtype)


def of_parameters(module: Any, stored: Stored) -> Stored:
    """The tensors that are parameters."""
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return {name: tensor for name, tensor in stored.items() if name in names}


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
            shape, read = value.const_value.shape.numpy(), stored[name].read
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
