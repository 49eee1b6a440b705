"""A GGUF checkpoint of one or several files: one header, whichever of them was named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ladder.errors import LadderError
from ladder.frontend.gguf.header import PLAIN, Header, TensorInfo, read_header
from ladder.frontend.gguf.parts import parts_of

SPLIT = "split.count"


def read_files(path: Path) -> Header:
    """The header of all parts of a checkpoint; refuse one that is no whole model."""
    paths = parts_of(path)
    for part in paths:
        if not part.exists():
            raise LadderError(f"{path}: part of a split model; {part.name} is missing; fetch it")
    headers = [read_header(part) for part in paths]
    whole = headers[0]
    _check_kind(whole)
    count = whole.metadata.get(SPLIT, 1)
    if count not in (0, len(paths)):
        raise LadderError(
            f"{path}: one of {count} parts of a split model, and its name does not say which; "
            "name the parts as they were made, NAME-00001-of-0000N.gguf"
        )
    for header in headers[1:]:
        whole = _joined(whole, header)
    stated = whole.metadata.get("split.tensors.count", len(whole.tensors))
    if stated != len(whole.tensors):
        raise LadderError(
            f"{path}: has {len(whole.tensors)} of {stated} tensors; fetch all parts again"
        )
    return whole


def _check_kind(header: Header) -> None:
    kind = header.metadata.get("general.type", "model")
    if kind != "model":
        raise LadderError(
            f"{header.path}: general.type={kind}, no model; merge it into its base model first"
        )
    if "general.architecture" not in header.metadata:
        raise LadderError(f"{header.path}: has no general.architecture; give the first part")


def _joined(whole: Header, part: Header) -> Header:
    twice = sorted(set(whole.tensors) & set(part.tensors))
    if twice:
        raise LadderError(f"{part.path}: {twice[0]} is in another part as well")
    return replace(whole, tensors={**whole.tensors, **part.tensors})


def raw_of(tensor: TensorInfo) -> np.ndarray:
    """A tensor's bytes in the file."""
    return np.memmap(tensor.path, np.uint8, "r", tensor.offset, (tensor.size,))


def values_of(tensor: TensorInfo) -> np.ndarray:
    """A tensor's values in float32, in torch's shape."""
    import gguf

    raw = raw_of(tensor)
    kind = gguf.GGMLQuantizationType[tensor.type]
    if tensor.type in PLAIN:
        plain = raw.view(np.float32 if tensor.type == "F32" else np.float16)
        return plain.astype(np.float32).reshape(tensor.shape)
    rows = raw.reshape(*tensor.shape[:-1], -1)
    values: np.ndarray = gguf.dequantize(rows, kind)
    return values.reshape(tensor.shape)
