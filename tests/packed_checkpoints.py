"""Weights packed as each quantization format packs them, and the values that they mean.

Every packer is written from the format's documentation, apart from the readers that it tests: it
begins at codes and scales, and computes the values from these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Tensors = dict[str, torch.Tensor]
NF4_BOOK = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
            -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
            0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
            0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)  # fmt: skip
FP4_BNB = (0.0, 0.0052083333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25, 0.0,
           -0.0052083333, -0.66666667, -1.0, -0.33333333, -0.5, -0.16666667, -0.25)  # fmt: skip
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


@dataclass(frozen=True)
class Packed:
    """The tensors of one module by the ends of their names, and the float32 weight [N, K]."""

    tensors: Tensors
    values: np.ndarray


@dataclass(frozen=True)
class Case:
    """A format: ``pack`` packs a module of N, K; ``type`` is Ladder's type with the same values."""

    name: str
    pack: Callable[[int, int], Packed]
    settings: Mapping[str, Any] = field(default_factory=dict)
    type: str = ""


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def scales(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(rng().uniform(0.01, 0.02, shape).astype(np.float32)).to(dtype)


def numbers(tensor: torch.Tensor) -> np.ndarray:
    found: np.ndarray = tensor.float().numpy()
    return found


def words(codes: np.ndarray, bits: int) -> torch.Tensor:
    """Codes [R, C] as one stream of bits for each row, the lowest first, in int32 [R, W]."""
    found = []
    for row in codes:
        stream = sum(int(code) << (bits * i) for i, code in enumerate(row))
        count = -(-len(row) * bits // 32)
        found.append(np.frombuffer(stream.to_bytes(4 * count, "little"), "<i4"))
    return torch.from_numpy(np.stack(found).astype(np.int32))


def float8(n: int, k: int) -> torch.Tensor:
    values = torch.from_numpy(rng().standard_normal((n, k)).astype(np.float32))
    return (values * 50).to(torch.float8_e4m3fn)


def fp8(block: int | None) -> Callable[[int, int], Packed]:
    def pack(n: int, k: int) -> Packed:
        weight = float8(n, k)
        grid = scales(-(-n // block), -(-k // block)) if block else scales(1)
        wide = np.ones((n, k), np.float32) * numbers(grid) if block is None else np.kron(
            numbers(grid), np.ones((block, block), np.float32)
        )[:n, :k]  # fmt: skip
        return Packed({".weight": weight, ".weight_scale_inv": grid}, numbers(weight) * wide)

    return pack


def by_row(scale: str, kind: str) -> Callable[[int, int], Packed]:
    def pack(n: int, k: int) -> Packed:
        weight = float8(n, k) if kind == "float" else signed(n, k, 8)
        rows = scales(n, 1)
        return Packed({".weight": weight, scale: rows}, numbers(weight) * numbers(rows))

    return pack


def signed(n: int, k: int, bits: int) -> torch.Tensor:
    half = 1 << (bits - 1)
    return torch.from_numpy(rng().integers(-half, half, (n, k)).astype(np.int8))


def packed_integers(bits: int, group: int, zero: bool = False, order: bool = False) -> Any:
    """compressed-tensors: half of the range is added to codes and zero points."""

    def pack(n: int, k: int) -> Packed:
        half, groups = 1 << (bits - 1), k // group
        codes = signed(n, k, bits).numpy().astype(np.int32)
        factor = scales(n, groups, dtype=torch.bfloat16)
        tensors = {
            ".weight_packed": words(codes + half, bits),
            ".weight_scale": factor,
            ".weight_shape": torch.tensor([n, k]),
        }
        of = np.arange(k) // group
        if order:
            of = rng().permutation(of)
            tensors[".weight_g_idx"] = torch.from_numpy(of.astype(np.int32))
        offset = np.zeros((n, groups), np.int32)
        if zero:
            offset = rng().integers(-half, half, (n, groups)).astype(np.int32)
            tensors[".weight_zero_point"] = words((offset + half).T, bits).T.contiguous()
        values = (codes - offset[:, of]).astype(np.float32) * numbers(factor)[:, of]
        return Packed(tensors, values)

    return pack


def four_bit_floats(nvfp4: bool) -> Callable[[int, int], Packed]:
    def pack(n: int, k: int) -> Packed:
        group, codes = 16 if nvfp4 else 32, rng().integers(0, 16, (n, k)).astype(np.uint8)
        values = E2M1[codes & 7] * np.where(codes >> 3, -1, 1).astype(np.float32)
        tensors = {".weight_packed": torch.from_numpy(codes[:, ::2] | codes[:, 1::2] << 4)}
        if nvfp4:
            factor = (scales(n, k // group) * 5000).to(torch.float8_e4m3fn)
            tensors[".weight_global_scale"] = torch.tensor([512.0])
            wide = numbers(factor) / np.float32(512)
        else:
            powers = rng().integers(118, 124, (n, k // group)).astype(np.uint8)
            factor, wide = torch.from_numpy(powers), np.exp2(powers.astype(np.float32) - 127)
        tensors[".weight_scale"] = factor
        return Packed(tensors, values * np.repeat(wide, group, axis=1))

    return pack


def gptq(bits: int, group: int, symmetric: bool, added: int = 1, order: bool = False) -> Any:
    """``added`` is what is subtracted from a zero point when it is stored."""

    def pack(n: int, k: int) -> Packed:
        top = (1 << bits) - 1
        codes = rng().integers(0, top + 1, (k, n))
        groups = k // group
        zero = np.full((groups, n), 1 << (bits - 1))
        if not symmetric:
            zero = rng().integers(1, top + 1, (groups, n))
        factor, of = scales(groups, n, dtype=torch.float16), np.arange(k) // group
        of = rng().permutation(of) if order else of
        tensors = {
            ".qweight": words(codes.T, bits).T.contiguous(),
            ".qzeros": words(zero - added, bits),
            ".scales": factor,
            ".g_idx": torch.from_numpy(of.astype(np.int32)),
        }
        values = (codes - zero[of]).astype(np.float32) * numbers(factor)[of]
        return Packed(tensors, np.ascontiguousarray(values.T))

    return pack


def awq(group: int) -> Callable[[int, int], Packed]:
    """AutoAWQ: in a word, place i holds column (0, 2, 4, 6, 1, 3, 5, 7)[i]."""

    def packed(codes: np.ndarray) -> torch.Tensor:
        eights = codes.reshape(len(codes), -1, 8)[:, :, (0, 2, 4, 6, 1, 3, 5, 7)]
        return words(eights.reshape(len(codes), -1), 4)

    def pack(n: int, k: int) -> Packed:
        codes, groups = rng().integers(0, 16, (k, n)), k // group
        zero, factor = rng().integers(0, 16, (groups, n)), scales(groups, n, dtype=torch.float16)
        of = np.arange(k) // group
        values = (codes - zero[of]).astype(np.float32) * numbers(factor)[of]
        tensors = {".qweight": packed(codes), ".qzeros": packed(zero), ".scales": factor}
        return Packed(tensors, np.ascontiguousarray(values.T))

    return pack


def bnb_int8(n: int, k: int) -> Packed:
    codes, largest = signed(n, k, 8), scales(n) * 100
    tensors = {
        ".weight": codes,
        ".SCB": largest,
        ".weight_format": torch.tensor(0, dtype=torch.uint8),
    }
    return Packed(tensors, numbers(codes) * (numbers(largest)[:, None] / np.float32(127)))


def bnb_four_bits(kind: str, block: int, nested: bool = False) -> Callable[[int, int], Packed]:
    def pack(n: int, k: int) -> Packed:
        book = np.array(NF4_BOOK if kind == "nf4" else FP4_BNB, np.float32)
        codes = rng().integers(0, 16, n * k).astype(np.uint8)
        blocks = -(-n * k // block)
        state: dict[str, Any] = {
            "quant_type": kind, "blocksize": block, "dtype": "bfloat16", "shape": [n, k],
        }  # fmt: skip
        tensors = {".weight": torch.from_numpy(codes[::2] << 4 | codes[1::2])[:, None]}
        largest = numbers(scales(blocks))
        if nested:
            of_scales = np.linspace(-1, 1, 256).astype(np.float32)
            second = rng().integers(0, 256, blocks).astype(np.uint8)
            outer = numbers(scales(-(-blocks // 256)))
            state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.25}
            tensors[".weight.nested_absmax"] = torch.from_numpy(outer)
            tensors[".weight.nested_quant_map"] = torch.from_numpy(of_scales)
            tensors[".weight.absmax"] = torch.from_numpy(second)
            largest = of_scales[second] * np.repeat(outer, 256)[:blocks] + np.float32(0.25)
        else:
            tensors[".weight.absmax"] = torch.from_numpy(largest)
        tensors[".weight.quant_map"] = torch.from_numpy(book)
        text = np.frombuffer(json.dumps(state).encode(), np.uint8).copy()
        tensors[f".weight.quant_state.bitsandbytes__{kind}"] = torch.from_numpy(text)
        return Packed(tensors, (book[codes] * np.repeat(largest, block)[: n * k]).reshape(n, k))

    return pack


def bitnet(divides: bool) -> Callable[[int, int], Packed]:
    def pack(n: int, k: int) -> Packed:
        from transformers.integrations.bitnet import pack_weights

        codes = torch.from_numpy(rng().integers(-1, 2, (n, k)).astype(np.int8))
        scale = torch.tensor([32.0 if divides else 1 / 32])
        values = numbers(codes) * np.float32(1 / 32)
        return Packed({".weight": pack_weights(codes.clone()), ".weight_scale": scale}, values)

    return pack


def compressed(form: str, **about: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": about}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
    }


BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}
GPTQ, AWQ = {"quant_method": "gptq", "group_size": 32}, {"quant_method": "awq", "version": "gemm"}
BNB = {"quant_method": "bitsandbytes"}
CASES = (
    Case("fp8, blocks", fp8(128), BLOCKS, "fp8_e4m3:g128"),
    Case("fp8, tensor", fp8(None), {"quant_method": "fp8"}, "fp8_e4m3:tensor"),
    Case(
        "fbgemm", by_row(".weight_scale", "float"), {"quant_method": "fbgemm_fp8"}, "fp8_e4m3:row"
    ),
    Case(
        "compressed fp8",
        by_row(".weight_scale", "float"),
        compressed("float-quantized"),
        "fp8_e4m3:row",
    ),
    Case(
        "compressed int8", by_row(".weight_scale", "int"), compressed("int-quantized"), "int8:row"
    ),
    Case("compressed int4", packed_integers(4, 32), compressed("pack-quantized"), "int4:g32:bf16"),
    Case(
        "compressed uint4",
        packed_integers(4, 32, zero=True),
        compressed("pack-quantized"),
        "uint4:g32:bf16:zp",
    ),
    Case(
        "compressed int8 packed",
        packed_integers(8, 32),
        compressed("pack-quantized"),
        "int8:g32:bf16",
    ),
    Case("compressed, reordered", packed_integers(4, 32, order=True), compressed("pack-quantized")),
    Case("compressed nvfp4", four_bit_floats(True), compressed("nvfp4-pack-quantized"), "nvfp4"),
    Case("compressed mxfp4", four_bit_floats(False), compressed("mxfp4-pack-quantized"), "mxfp4"),
    Case("gptq 4", gptq(4, 32, True), {**GPTQ, "bits": 4}, "int4:g32:fp16"),
    Case("gptq 4, zeros", gptq(4, 32, False), {**GPTQ, "bits": 4}, "uint4:g32:fp16:zp"),
    Case("gptq 8", gptq(8, 32, True), {**GPTQ, "bits": 8}, "int8:g32:fp16"),
    Case("gptq 3", gptq(3, 32, False), {**GPTQ, "bits": 3}, "uint3:g32:fp16:zp"),
    Case("gptq 2", gptq(2, 32, True), {**GPTQ, "bits": 2}, "int2:g32:fp16"),
    Case(
        "gptq 4, second format",
        gptq(4, 32, False, added=0),
        {**GPTQ, "bits": 4, "checkpoint_format": "gptq_v2"},
        "uint4:g32:fp16:zp",
    ),
    Case("gptq 4, reordered", gptq(4, 32, True, order=True), {**GPTQ, "bits": 4, "desc_act": True}),
    Case("awq", awq(32), {**AWQ, "bits": 4, "group_size": 32}, "uint4:g32:fp16:zp"),
    Case("bitsandbytes int8", bnb_int8, {**BNB, "load_in_8bit": True}, "int8:row"),
    Case("bitsandbytes nf4", bnb_four_bits("nf4", 64), {**BNB, "load_in_4bit": True}, "nf4:g64"),
    Case("bitsandbytes nf4, nested", bnb_four_bits("nf4", 64, nested=True), BNB, "nf4:g64"),
    Case("bitsandbytes fp4", bnb_four_bits("fp4", 64), BNB),
    Case(
        "bitnet",
        bitnet(True),
        {"quant_method": "bitnet", "linear_class": "bitlinear"},
        "ternary:tensor",
    ),
    Case(
        "bitnet, auto",
        bitnet(False),
        {"quant_method": "bitnet", "linear_class": "autobitlinear"},
        "ternary:tensor",
    ),
)
