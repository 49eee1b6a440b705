"""Float8 weights with scales of a tensor, of rows, of groups of a row, or of square blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.frontend.packed.stored import (
    StoredTensor,
    array,
    in_scale_type,
    need,
    of_codes,
    raw_bytes,
    scale_name,
)
from ladder.frontend.weight_files import RawTensor
from ladder.ir.codes import Codes
from ladder.ir.dtype import DType

ELEMENTS = {"float8_e4m3fn": "fp8_e4m3", "float8_e5m2": "fp8_e5m2", "int8": "int8"}
NAN = {"fp8_e4m3": (0x7F, 0xFF), "fp8_e5m2": (*range(0x7C, 0x80), *range(0xFC, 0x100))}


def with_inverse(
    owner: str, parts: Mapping[str, RawTensor], settings: Mapping[str, Any]
) -> StoredTensor:
    """``weight`` times ``weight_scale_inv`` (DeepSeek, transformers' fp8), blocks of N and K."""
    block = settings.get("weight_block_size")
    scale = need(parts, ".weight_scale_inv", owner)
    return scaled(need(parts, ".weight", owner), scale, tuple(block) if block else None)


def with_scale(
    owner: str, parts: Mapping[str, RawTensor], settings: Mapping[str, Any]
) -> StoredTensor:
    """``weight`` times ``weight_scale`` (fbgemm_fp8): one scale for each row."""
    return scaled(need(parts, ".weight", owner), need(parts, ".weight_scale", owner))


def scaled(
    weight: RawTensor, scale: RawTensor, block: tuple[int, ...] | None = None
) -> StoredTensor:
    """A weight [N, K] of one-byte elements; the shape of its scales says what each one is of."""
    if weight.dtype not in ELEMENTS or len(weight.shape) != 2:
        raise LadderError(
            f"{weight.name}: stored as {weight.dtype} {list(weight.shape)} with the scales "
            f"{scale.name}, which has no rule; give an unquantized checkpoint"
        )
    (n, k), grid = weight.shape, _grid(weight, scale)
    rows, columns = block or (-(-n // max(grid[0], 1)), -(-k // max(grid[1], 1)))
    whole = block is not None or (n % rows == 0 and k % columns == 0)
    if grid != (-(-n // rows), -(-k // columns)) or not whole:
        raise LadderError(
            f"{scale.name}: has shape {list(scale.shape)}, which does not fit the shape "
            f"[{n}, {k}] of {weight.name}; the checkpoint is damaged"
        )
    plain = "tensor" if grid == (1, 1) else "row" if grid[1] == 1 else f"g{columns}"
    group = f"g{columns}" if block else plain
    name, element = scale_name(scale), ELEMENTS[weight.dtype]
    dtype = DType.parse(f"{element}:{group}:{name}")

    def codes() -> Codes:
        found = array(scale).reshape(grid)
        if group != "tensor":
            found = np.repeat(found, rows, axis=0)[:n]
        return Codes(dtype, _codes(weight, element), in_scale_type(found, name))

    return of_codes((n, k), codes)


def _grid(weight: RawTensor, scale: RawTensor) -> tuple[int, int]:
    """Scales along N and along K."""
    shape = scale.shape
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) < 2:
        count = shape[0] if shape else 1
        return (count, 1) if count in (1, weight.shape[0]) else (0, 0)
    return (0, 0)


def _codes(weight: RawTensor, element: str) -> np.ndarray:
    patterns = raw_bytes(weight)
    if element == "int8":
        return patterns.view(np.int8)
    if np.isin(patterns, NAN[element]).any():
        raise LadderError(f"{weight.name}: has NaN or infinity; the checkpoint is damaged")
    return patterns
