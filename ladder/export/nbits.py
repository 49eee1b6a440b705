"""ONNX Runtime's own low-bit operators: MatMulNBits and GatherBlockQuantized."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.export.weights import (
    Names,
    Weight,
    add_initializer,
    drop_weight,
    find_weights,
    original_op,
    replace_node,
    site_of,
)
from ladder.ir.dtype import DType

DOMAIN, VERSION = "com.microsoft", 1
WIDTHS = (2, 4, 8)
BLOCKS = (16, 32, 64, 128, 256)


def refuse(op: str, dtype: DType, k: int) -> str | None:
    """Why a site of this operator, type and K has no such form, or None."""
    name = "GatherBlockQuantized" if op == "Gather" else "MatMulNBits"
    if dtype.bits not in WIDTHS:
        return f"{name} stores {', '.join(map(str, WIDTHS))} bits, not {dtype.bits}"
    if dtype.groups(k) > 1 and not _fits(dtype.group_size(k)):
        return f"{name} needs groups that are a power of two from 16 on, not {dtype.group}"
    if op == "Gather" and k * dtype.bits % 8:
        return f"{name} stores whole bytes in a row, not {k} codes of {dtype.bits} bits"
    return None


def to_nbits(model: ir.Model, accuracy_level: int = 0) -> None:
    """Rewrite in place; ``accuracy_level`` 4 lets ONNX Runtime round activations to int8.

    %y = LowBitMatMul(%x, %codes, %scale)  -->  %y = com.microsoft.MatMulNBits(%x, %b, %scales)
    %y = LowBitGather(%i, %codes, %scale)
      -->  %y = com.microsoft.GatherBlockQuantized(%b, %i, %scales)
    """
    weights = find_weights(model)
    for weight in weights:
        _check(weight)
    names = Names(model)
    for weight in weights:
        _rewrite(weight, names, accuracy_level)
    model.graph.opset_imports[DOMAIN] = VERSION


def _check(weight: Weight) -> None:
    for node in weight.users:
        reason = refuse(original_op(node), weight.dtype, weight.shape[1])
        if reason is not None:
            raise LadderError(
                f"site {site_of(node)}: {weight.dtype} has no nbits form: {reason}; "
                "choose another type, or --format qdq"
            )


@dataclass(frozen=True)
class _Packed:
    """Unsigned codes [N, blocks, block], scales and zero points [N, blocks]."""

    block: int
    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None


def _fits(group: int) -> bool:
    return group >= BLOCKS[0] and group & (group - 1) == 0


def block_size(dtype: DType, k: int) -> int:
    """The operator's block: the group, or where that is larger, the cheapest part of it."""
    if dtype.groups(k) > 1 and dtype.group_size(k) in BLOCKS:
        return dtype.group_size(k)
    if dtype.groups(k) > 1:
        return BLOCKS[-1]
    return min(BLOCKS, key=lambda b: -(-k // b) * (b * dtype.bits // 8 + 4))


def _packed(weight: Weight) -> _Packed:
    """Cut K into blocks; a group wider than a block repeats its scale, the tail holds zeros."""
    dtype, (n, k) = weight.dtype, weight.shape
    block = block_size(dtype, k)
    blocks = -(-k // block)
    group_of = np.arange(blocks) * block // dtype.group_size(k)
    zero = weight.zero_array()
    codes = np.full((n, blocks * block), dtype.element.offset, np.uint8)
    codes[:, :k] = weight.code_array().astype(np.int16) + dtype.element.offset
    return _Packed(
        block,
        codes.reshape(n, blocks, block),
        weight.scale_array()[:, group_of],
        None if zero is None else zero[:, group_of],
    )


def pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned codes [..., K] -> bytes [..., ceil(K * bits / 8)], the first code lowest."""
    per_byte = 8 // bits
    tail = -codes.shape[-1] % per_byte
    padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, tail)])
    parts = padded.reshape(*codes.shape[:-1], -1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    packed: np.ndarray = np.bitwise_or.reduce(parts << shifts, axis=-1)
    return packed.astype(np.uint8)


def _rewrite(weight: Weight, names: Names, accuracy_level: int) -> None:
    packed = _packed(weight)
    made: dict[bool, list[ir.Value]] = {}
    for node in list(weight.users):
        gather = node.op_type == "LowBitGather"
        if gather not in made:
            made[gather] = _constants(weight, packed, gather, names)
        replace_node(
            node,
            _gather(weight, packed, node, made[True])
            if gather
            else _product(weight, packed, node, made[False], accuracy_level),
        )
    drop_weight(weight)


def _constants(weight: Weight, packed: _Packed, gather: bool, names: Names) -> list[ir.Value]:
    """Bytes [N, blocks, bytes] (a Gather's: [N, bytes]), scales and zero points [N, blocks]."""
    n, k = weight.shape
    codes = packed.codes.reshape(n, -1)[:, :k] if gather else packed.codes
    arrays = {"packed": pack_bits(codes, weight.dtype.bits), "packed.scale": packed.scale}
    if packed.zero is not None:
        arrays["packed.zero"] = pack_bits(packed.zero, weight.dtype.bits)
    graph = weight.graph
    return [add_initializer(graph, names.fresh(f"{weight.name}.{p}"), a) for p, a in arrays.items()]


def _product(
    weight: Weight, packed: _Packed, node: ir.Node, constants: list[ir.Value], accuracy_level: int
) -> ir.Node:
    n, k = weight.shape
    attributes = {"K": k, "N": n, "bits": weight.dtype.bits, "block_size": packed.block}
    if accuracy_level:
        attributes["accuracy_level"] = accuracy_level
    inputs = [node.inputs[0], *constants]
    return ir.node("MatMulNBits", inputs, attributes, domain=DOMAIN, version=VERSION)


def _gather(weight: Weight, packed: _Packed, node: ir.Node, constants: list[ir.Value]) -> ir.Node:
    codes, *rest = constants
    attributes = {
        "bits": weight.dtype.bits,
        "block_size": packed.block,
        "gather_axis": 0,
        "quantize_axis": 1,
    }
    inputs = [codes, node.inputs[0], *rest]
    return ir.node("GatherBlockQuantized", inputs, attributes, domain=DOMAIN, version=VERSION)
