"""compressed-tensors: the formats in which a module's weight is stored as codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.frontend.packed.bits import nibbles, unpacked
from ladder.frontend.packed.fp8 import scaled
from ladder.frontend.packed.stored import (
    StoredTensor,
    array,
    in_scale_type,
    need,
    of_codes,
    raw_bytes,
    scale_name,
    setting,
)
from ladder.frontend.weight_files import RawTensor
from ladder.ir.codes import Codes
from ladder.ir.dtype import DType

FORMATS = (
    "float-quantized", "int-quantized", "naive-quantized", "pack-quantized", "mixed-precision",
    "nvfp4-pack-quantized", "mxfp4-pack-quantized", "dense",
)  # fmt: skip
PACKED_BITS = (4, 8, 2, 1)  # several codes in a 32-bit word, none across two of them


def check(settings: Mapping[str, Any]) -> None:
    """Refuse a format, or a sparsity, that has no rule."""
    setting(settings, "format", FORMATS)
    for group in _groups(settings):
        setting({"format": group.get("format") or "dense"}, "format", FORMATS)
    sparsity = (settings.get("sparsity_config") or {}).get("format", "dense")
    setting({"sparsity_config.format": sparsity}, "sparsity_config.format", ("dense",))


def _groups(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((settings.get("config_groups") or {}).values())


def _block(settings: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Rows and columns that share a scale, where a group of modules says so."""
    blocks = [(group.get("weights") or {}).get("block_structure") for group in _groups(settings)]
    return next((tuple(map(int, block)) for block in blocks if block), None)


def read(owner: str, parts: Mapping[str, RawTensor], settings: Mapping[str, Any]) -> StoredTensor:
    """A module of any format; the parts that it has say which one it is."""
    if ".weight_packed" not in parts:
        return _plain(owner, parts, _block(settings))
    if parts[".weight_packed"].dtype == "uint8":
        return _floats(owner, parts)
    return _integers(owner, parts)


def _plain(
    owner: str, parts: Mapping[str, RawTensor], block: tuple[int, ...] | None
) -> StoredTensor:
    """``weight`` in float8 or int8, times ``weight_scale``."""
    weight, scale = need(parts, ".weight", owner), need(parts, ".weight_scale", owner)
    of_blocks = len(scale.shape) == 2 and 1 not in scale.shape and scale.shape[0] != weight.shape[0]
    found = scaled(weight, scale, block if of_blocks else None)
    zero = parts.get(".weight_zero_point")
    if zero is None or not array(zero).any():
        return found
    assert found.codes is not None
    codes = found.codes
    if weight.dtype != "int8" or zero.shape != scale.shape:
        raise LadderError(f"{zero.name}: zero points of {weight.dtype} have no rule")
    return of_codes(found.shape, lambda: _with_zero(codes(), array(zero).astype(np.int16)))


def _with_zero(found: Codes, zero: np.ndarray) -> Codes:
    """Signed bytes and their zero points as unsigned ones."""
    dtype = DType.parse(f"u{found.dtype}:zp")
    codes = (found.codes.astype(np.int16) + 128).astype(np.uint8)
    return Codes(
        dtype, codes, found.scale, (zero + 128).astype(np.uint8).reshape(found.scale.shape)
    )


def _integers(owner: str, parts: Mapping[str, RawTensor]) -> StoredTensor:
    """``weight_packed`` int32 [N, K bits/32], with half the range added to every code."""
    words, scale = need(parts, ".weight_packed", owner), need(parts, ".weight_scale", owner)
    n, k = (int(d) for d in array(need(parts, ".weight_shape", owner)))
    bits = _bits(words, k)
    groups = scale.shape[1] if len(scale.shape) == 2 else 1
    size, name = -(-k // groups), scale_name(scale)
    zero, order = parts.get(".weight_zero_point"), parts.get(".weight_g_idx")
    group = "tensor" if scale.shape in ((), (1,), (1, 1)) and n > 1 else f"g{size}"
    group = "row" if groups == 1 and group != "tensor" else group

    def codes() -> Codes:
        found = unpacked(array(words), bits)[:, :k]
        scales = in_scale_type(array(scale).reshape(-1, groups), name)
        if zero is not None:
            offsets = unpacked(array(zero).T, bits)[:, :n].T
            dtype = DType.parse(f"uint{bits}:{group}:{name}:zp")
            return Codes(dtype, found, scales, np.ascontiguousarray(offsets))
        signed = (found.astype(np.int16) - (1 << (bits - 1))).astype(np.int8)
        return Codes(DType.parse(f"int{bits}:{group}:{name}"), signed, scales)

    if order is not None and not np.array_equal(array(order), np.arange(k) // size):
        return StoredTensor((n, k), lambda: _reordered(codes(), array(order)))
    return of_codes((n, k), codes)


def _bits(words: RawTensor, k: int) -> int:
    for bits in PACKED_BITS:
        if words.shape[1] == -(-k // (32 // bits)):
            return bits
    raise LadderError(
        f"{words.name}: shape {list(words.shape)} for K = {k} is of a width that has no rule; "
        "give an unquantized checkpoint"
    )


def _reordered(codes: Codes, group_of: np.ndarray) -> np.ndarray:
    """Float32 of columns whose groups are not runs of K."""
    zero = np.zeros((1, 1)) if codes.zero is None else codes.zero
    wide = np.broadcast_to(zero, codes.scale.shape)[:, group_of].astype(np.float32)
    scale = codes.scale.astype(np.float32)[:, group_of]
    values: np.ndarray = (codes.codes.astype(np.float32) - wide) * scale
    return values


def _floats(owner: str, parts: Mapping[str, RawTensor]) -> StoredTensor:
    """Four-bit floats: NVFP4 with ``weight_global_scale``, else MXFP4."""
    packed, scale = need(parts, ".weight_packed", owner), need(parts, ".weight_scale", owner)
    shape = (packed.shape[0], packed.shape[1] * 2)
    nvfp4 = ".weight_global_scale" in parts
    size, kind = shape[1] // scale.shape[1], np.dtype(DType.parse("mxfp4").scale_type.dtype)
    if size != (16 if nvfp4 else 32):
        raise LadderError(f"{scale.name}: four-bit floats with groups of {size} have no rule")

    def codes() -> Codes:
        found = nibbles(raw_bytes(packed))
        if not nvfp4:
            return Codes(DType.parse("mxfp4"), found, raw_bytes(scale).view(kind))
        dtype = DType.parse("nvfp4")
        whole = np.float32(1) / np.float32(array(parts[".weight_global_scale"]).ravel()[0])
        return Codes(dtype, found, raw_bytes(scale).view(dtype.scale_type.dtype), None, whole)

    return of_codes(shape, codes)
