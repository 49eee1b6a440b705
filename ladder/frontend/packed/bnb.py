"""bitsandbytes: int8 with a scale for each row, and four bits with a code book."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.frontend.packed.stored import StoredTensor, array, need, of_codes, raw_bytes
from ladder.frontend.weight_files import RawTensor
from ladder.ir.codes import Codes
from ladder.ir.dtype import DType
from ladder.ir.element import NF4

STATE = ".weight.quant_state.bitsandbytes__"  # followed by nf4 or fp4


def int8(owner: str, parts: Mapping[str, RawTensor], settings: Mapping[str, Any]) -> StoredTensor:
    """``weight`` int8 [N, K] times ``SCB`` [N] / 127."""
    weight, largest = need(parts, ".weight", owner), need(parts, ".SCB", owner)
    n, k = weight.shape
    if weight.dtype != "int8" or prod(largest.shape) != n:
        raise LadderError(
            f"{owner}.weight: {weight.dtype} {[n, k]} does not fit SCB {list(largest.shape)}; "
            "the checkpoint is damaged"
        )

    def codes() -> Codes:
        scale = array(largest).reshape(n, 1) / np.float32(127)
        return Codes(DType.parse("int8:row"), array(weight), scale)

    return of_codes((n, k), codes)


def four_bits(
    owner: str, parts: Mapping[str, RawTensor], settings: Mapping[str, Any]
) -> StoredTensor:
    """``weight`` uint8 [N K/2, 1]: the codes of the flat weight, the high one of a byte first."""
    (mark,) = (name for name in parts if name.startswith(STATE))
    state = json.loads(raw_bytes(parts[mark]).tobytes())
    shape, block = tuple(int(d) for d in state["shape"]), int(state["blocksize"])
    weight, book = need(parts, ".weight", owner), array(need(parts, ".weight.quant_map", owner))
    blocks = -(-prod(shape) // block)
    if prod(weight.shape) * 2 != prod(shape) or len(shape) != 2:
        raise LadderError(
            f"{owner}.weight: {list(weight.shape)} does not hold four bits for each element of "
            f"{list(shape)}; the checkpoint is damaged"
        )

    def flat() -> np.ndarray:
        packed = raw_bytes(weight).ravel()
        return np.stack([packed >> 4, packed & 15], axis=1).ravel()

    def scales() -> np.ndarray:
        return _scales(owner, parts, state)[:blocks]

    def codes() -> Codes:
        dtype = DType.parse(f"nf4:g{block}")
        return Codes(dtype, flat().reshape(shape), scales().reshape(shape[0], -1))

    def values() -> np.ndarray:
        spread = np.repeat(scales(), block)[: prod(shape)]
        found: np.ndarray = (book[flat()] * spread).reshape(shape).astype(np.float32)
        return found

    equal = np.array_equal(book, np.array(NF4, np.float32)) and shape[1] % block == 0
    return of_codes(shape, codes) if equal else StoredTensor(shape, values)


def _scales(owner: str, parts: Mapping[str, RawTensor], state: Mapping[str, Any]) -> np.ndarray:
    """The largest magnitude of each block; with double quantization it is itself a code."""
    absmax = need(parts, ".weight.absmax", owner)
    if "nested_blocksize" not in state:
        return array(absmax)
    book = array(need(parts, ".weight.nested_quant_map", owner))
    largest = array(need(parts, ".weight.nested_absmax", owner))
    codes = array(absmax).ravel()
    spread = np.repeat(largest, int(state["nested_blocksize"]))[: len(codes)]
    scales: np.ndarray = book[codes] * spread + np.float32(state["nested_offset"])
    return scales
