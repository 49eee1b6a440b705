"""GPTQ: codes packed along K in 32-bit words, with scales and zero points of groups of K."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.frontend.packed.bits import unpacked
from ladder.frontend.packed.stored import (
    StoredTensor,
    array,
    in_scale_type,
    need,
    of_codes,
    scale_name,
    setting,
)
from ladder.frontend.weight_files import RawTensor
from ladder.ir.codes import Codes
from ladder.ir.dtype import DType

BITS = (4, 8, 3, 2)
FORMATS = {"gptq": 1, "gptq_v2": 0}  # what is added to a stored zero point


def read(owner: str, parts: Mapping[str, RawTensor], settings: Mapping[str, Any]) -> StoredTensor:
    """``qweight`` [K bits/32, N], ``qzeros`` [G, N bits/32], ``scales`` [G, N], ``g_idx`` [K].

    Weights whose groups are not runs of K (``desc_act``) are read as floats.
    """
    bits = setting(settings, "bits", BITS)
    added = FORMATS[setting(settings, "checkpoint_format", tuple(FORMATS))]
    words, scales = need(parts, ".qweight", owner), need(parts, ".scales", owner)
    n, k = scales.shape[1], words.shape[0] * 32 // bits
    size = k if settings.get("group_size", -1) in (-1, None) else int(settings["group_size"])
    _check(owner, words, scales, (n, k), -(-k // size))
    zero = unpacked(array(need(parts, ".qzeros", owner)), bits)[:, :n].T + added
    group_of = array(parts[".g_idx"]) if ".g_idx" in parts else np.arange(k) // size

    def plain_codes() -> np.ndarray:
        return unpacked(array(words).T, bits)

    if not np.array_equal(group_of, np.arange(k) // size) or zero.max() >> bits:
        return StoredTensor((n, k), lambda: _values(plain_codes(), scales, zero, group_of))
    return of_codes((n, k), lambda: grouped(plain_codes(), scales, zero, bits, size))


def grouped(codes: np.ndarray, scales: RawTensor, zero: np.ndarray, bits: int, size: int) -> Codes:
    """Unsigned codes [N, K] with scales [G, N] and zero points [N, G]; signed if these allow it."""
    name, groups = scale_name(scales), -(-codes.shape[1] // size)
    group = f"g{size}" if groups > 1 else "row"
    scale = in_scale_type(array(scales).T, name)
    middle = 1 << (bits - 1)
    if (zero == middle).all():
        signed = (codes.astype(np.int16) - middle).astype(np.int8)
        return Codes(DType.parse(f"int{bits}:{group}:{name}"), signed, scale)
    dtype = DType.parse(f"uint{bits}:{group}:{name}:zp")
    return Codes(dtype, codes, scale, np.ascontiguousarray(zero.astype(np.uint8)))


def _values(
    codes: np.ndarray, scales: RawTensor, zero: np.ndarray, group_of: np.ndarray
) -> np.ndarray:
    scale = array(scales).T
    values: np.ndarray = (codes.astype(np.float32) - zero[:, group_of]) * scale[:, group_of]
    return values


def _check(
    owner: str, words: RawTensor, scales: RawTensor, shape: tuple[int, int], groups: int
) -> None:
    if words.shape[1] != shape[0] or scales.shape[0] != groups:
        raise LadderError(
            f"{owner}: qweight {list(words.shape)} and scales {list(scales.shape)} do not fit "
            "quantization_config.group_size and bits; the checkpoint is damaged"
        )
