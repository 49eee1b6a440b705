"""The low-bit operators of ONNX Runtime: MatMulNBits, MatMulBnb4 and GatherBlockQuantized."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.export import bnb4
from ladder.export.emit import Emitter
from ladder.export.weights import (
    absorb_casts,
    drop_weight,
    original_op,
    replace_node,
)
from ladder.ir.dtype import FLOAT_ZERO, DType

DOMAIN, VERSION = "com.microsoft", 1
PRODUCT, GATHER = "MatMulNBits", "GatherBlockQuantized"
WIDTHS = (2, 4, 8)
FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
KINDS = (FLOAT, FLOAT16, ir.DataType.BFLOAT16)
BLOCKS = (16, 32, 64, 128, 256)


def operator(op: str, dtype: DType) -> str:
    """The operator that a MatMul, Gemm or Gather over this type becomes."""
    if op == "Gather":
        return GATHER
    return bnb4.OPERATOR if bnb4.takes(dtype) else PRODUCT


def refuse(op: str, dtype: DType, k: int) -> str | None:
    """Why a site of this operator, type and K cannot use one of these operators, or None."""
    name, element = operator(op, dtype), dtype.element
    if op == "Conv":
        return "ONNX Runtime has no low-bit convolution"
    if name == bnb4.OPERATOR:
        return bnb4.refuse(dtype, k)
    if element.book:
        return f"{name} has integers only, not the code book of {element.name}"
    if width(dtype) not in WIDTHS or (element.bits > 2 and element.bits != width(dtype)):
        return f"{name} stores {', '.join(map(str, WIDTHS))} bits, not {dtype.bits}"
    if dtype.minimum:
        return f"{name} subtracts zero points before scaling and has no minimum to add"
    if dtype.zero == FLOAT_ZERO and (op == "Gather" or dtype.bits == 8):
        return f"{name} has no float zero points{'' if op == 'Gather' else ' with 8 bits'}"
    if dtype.groups(k) > 1 and not _fits(dtype.group_size(k)):
        return f"{name} needs groups that are a power of two from 16 on, not {dtype.group}"
    if op == "Gather" and k * width(dtype) % 8:
        return f"{name} needs whole bytes per row, not {k} codes of {width(dtype)} bits"
    return None


def refuse_kind(op: str, dtype: DType, kind: ir.DataType) -> str | None:
    """Why the operators have no products and tables of this float type, or None."""
    name = operator(op, dtype)
    return f"{name} has no {kind.name}" if kind not in KINDS else None


def runs_in(op: str, dtype: DType, kind: ir.DataType) -> bool:
    """Whether ONNX Runtime has a kernel for CPUs in this float type."""
    return kind == FLOAT or (kind == FLOAT16 and operator(op, dtype) != bnb4.OPERATOR)


def width(dtype: DType) -> int:
    """Bits that a code takes; 1-bit codes and ternary take two."""
    return max(dtype.bits, WIDTHS[0])


def check(site: str, op: str, dtype: DType, k: int, kind: ir.DataType = FLOAT) -> None:
    """Refuse a site that cannot be written."""
    reason = refuse(op, dtype, k) or refuse_kind(op, dtype, kind)
    if reason is not None:
        raise LadderError(
            f"site {site}: {dtype} has no nbits form: {reason}; "
            "choose another type, or --format qdq"
        )


def _fits(group: int) -> bool:
    return group >= BLOCKS[0] and group & (group - 1) == 0


def block_size(dtype: DType, k: int) -> int:
    """The operator's group size: the type's group, or the cheapest part of a larger group."""
    if dtype.groups(k) > 1 and dtype.group_size(k) in BLOCKS:
        return dtype.group_size(k)
    # ONNX Runtime has fast 2-bit products (accuracy_level 4) for groups of up to 128.
    blocks = BLOCKS[:-1] if width(dtype) == 2 else BLOCKS
    if dtype.groups(k) > 1:
        return blocks[-1]
    return min(blocks, key=lambda b: -(-k // b) * (b * width(dtype) // 8 + 4))


def pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned codes [..., K] -> bytes [..., ceil(K * bits / 8)], the first code lowest."""
    per_byte = 8 // bits
    tail = -codes.shape[-1] % per_byte
    padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, tail)])
    parts = padded.reshape(*codes.shape[:-1], -1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    packed: np.ndarray = np.bitwise_or.reduce(parts << shifts, axis=-1)
    return packed.astype(np.uint8)


def rewrite(emit: Emitter, accuracy_level: int = 0) -> None:
    """Replace the users in place; ``accuracy_level`` 4 lets ONNX Runtime round activations to int8.

    %y = LowBitMatMul(%x, %codes, %scale)  -->  %y = com.microsoft.MatMulNBits(%x, %b, %scales)
    %y = LowBitGather(%i, %codes, %scale)
      -->  %y = com.microsoft.GatherBlockQuantized(%b, %i, %scales)
    """
    weight = emit.weight
    names = [operator(original_op(node), weight.dtype) for node in weight.users]
    # Write everything before the first user is removed: new nodes are inserted before it.
    forms = {name: _form(emit, name, accuracy_level) for name in dict.fromkeys(names)}
    for node, name in zip(list(weight.users), names, strict=True):
        absorb_casts(node)
        constants, attributes = forms[name]
        at = 1 if name == GATHER else 0
        inputs = [*constants[:at], node.inputs[0], *constants[at:]]
        replace_node(node, ir.node(name, inputs, attributes, domain=DOMAIN, version=VERSION))
    drop_weight(weight)


def _form(emit: Emitter, name: str, accuracy_level: int) -> tuple[list[ir.Value], dict[str, int]]:
    """The constants of an operator, in order, and its attributes."""
    dtype, (n, k) = emit.weight.dtype, emit.weight.shape
    if name == bnb4.OPERATOR:
        return bnb4.constants(emit), bnb4.attributes(dtype, n, k)
    shared = {"bits": width(dtype), "block_size": block_size(dtype, k)}
    if name == GATHER:
        return _constants(emit, True), {**shared, "gather_axis": 0, "quantize_axis": 1}
    level = {"accuracy_level": accuracy_level} if accuracy_level else {}
    return _constants(emit, False), {**shared, "K": k, "N": n, **level}


def _constants(emit: Emitter, gather: bool) -> list[ir.Value]:
    """Bytes [N, groups, bytes] ([N, bytes] for a Gather), scales and zero points [N, groups].

    A group that is larger than the operator's repeats its scale. The last group is padded with
    zeros.
    """
    weight, dtype = emit.weight, emit.weight.dtype
    bits, (n, k) = width(dtype), weight.shape
    block = block_size(dtype, k)
    blocks = -(-k // block)
    offset = 0 if dtype.zero_point else 1 << (bits - 1)
    codes = np.full((n, k if gather else blocks * block), offset, np.uint8)
    codes[:, :k] = weight.code_array().astype(np.int16) + offset
    rows = codes if gather else codes.reshape(n, blocks, block)
    group_of = np.arange(blocks) * block // dtype.group_size(k)
    made = [
        emit.constant("packed", pack_bits(rows, bits)),
        emit.scale("packed.scale", weight.scale_array()[:, group_of]),
    ]
    zero = weight.zero_array()
    if zero is None:
        return made
    if dtype.zero == FLOAT_ZERO:
        return [*made, emit.as_float("packed.zero", zero[:, group_of])]
    return [*made, emit.constant("packed.zero", pack_bits(zero[:, group_of], bits))]
