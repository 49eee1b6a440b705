"""A weight of a checkpoint: its shape, its values, and its codes where Ladder has their type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.frontend.weight_files import RawTensor
from ladder.ir.codes import Codes

FLOATS = ("float64", "float32", "float16", "bfloat16")
# Names of torch's dtypes of scales -> the scale types of Ladder
SCALES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint; ``read`` gives its values in float32.

    ``codes`` reads the codes of a weight that is stored in a type of Ladder; the values are what
    they decode to. ``problem`` says why it cannot be a weight of a model.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    codes: Callable[[], Codes] | None = None
    problem: str = ""


Stored = Mapping[str, StoredTensor]
"""Name of a tensor of the model -> where its values are."""


def plain(tensor: RawTensor) -> StoredTensor:
    """A tensor that is stored as floats."""
    return StoredTensor(tensor.shape, lambda: array(tensor))


def of_codes(shape: tuple[int, ...], codes: Callable[[], Codes]) -> StoredTensor:
    """A weight [N, K] that is stored in a type of Ladder."""
    return StoredTensor(shape, lambda: codes().values(), codes)


def array(tensor: RawTensor) -> np.ndarray:
    """The values of a float tensor as float32, and integers as they are."""
    values = tensor.read()
    found: np.ndarray = (values.float() if values.is_floating_point() else values).numpy()
    return found


def raw_bytes(tensor: RawTensor) -> np.ndarray:
    """The bit patterns of a tensor of one-byte elements."""
    import torch

    patterns: np.ndarray = tensor.read().view(torch.uint8).numpy()
    return patterns


def scale_name(tensor: RawTensor) -> str:
    """The scale type of a float tensor."""
    if tensor.dtype not in SCALES:
        raise LadderError(f"{tensor.name}: scales are stored as {tensor.dtype}, which has no rule")
    return SCALES[tensor.dtype]


def in_scale_type(values: np.ndarray, name: str) -> np.ndarray:
    """Scales in float32 that came from the type ``name``, in that type again."""
    from ladder.ir.dtype import SCALES as KINDS

    return np.ascontiguousarray(values).astype(KINDS[name])


def need(parts: Mapping[str, RawTensor], name: str, owner: str) -> RawTensor:
    """A part of a packed weight; refuse a weight that lacks it."""
    if name not in parts:
        raise LadderError(f"{owner}{name}: missing from the checkpoint; fetch the whole checkpoint")
    return parts[name]


def setting(settings: Mapping[str, Any], name: str, known: tuple[Any, ...]) -> Any:
    """A setting of the checkpoint's quantization; refuse a value that has no rule.

    A missing setting has the first of the known values.
    """
    value = settings.get(name, known[0])
    if value not in known:
        values = ", ".join(map(str, known))
        raise LadderError(
            f"quantization_config.{name} = {value} has no rule (known: {values}); "
            "give an unquantized checkpoint"
        )
    return value
