"""The block types of GGUF that have an equal among Ladder's types, and their codes and scales.

Nothing is unpacked here: gguf decodes blocks in which some bytes are replaced. Blocks with a scale
of one decode to their codes, blocks whose codes all mean one decode to their scales, and blocks
whose codes all mean zero decode to their minimum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ladder.errors import LadderError
from ladder.frontend.gguf.files import raw_of
from ladder.frontend.gguf.header import TensorInfo
from ladder.ir.codes import Codes
from ladder.ir.dtype import SCALES, DType

Bytes = Mapping[int, bytes]  # where in a block -> what is written there
ONE, NONE = b"\x00\x3c", b"\x00\x00"  # float16
SIX_BIT_ONES = b"\1\1\1\1\0\0\0\0\1\1\1\1"  # eight scales of 1 and eight minima of 0


@dataclass(frozen=True)
class Block:
    """A block type: Ladder's equal, and the bytes that change what a block decodes to.

    With ``unscaled`` it decodes to its codes, with ``ones`` to its scales, with ``zeros`` to its
    minimum.
    """

    type: str
    unscaled: Bytes
    ones: Bytes
    zeros: Bytes = field(default_factory=dict)


BLOCKS = {
    "Q4_0": Block("int4:g32:fp16", {0: ONE}, {2: b"\x99" * 16}),
    "Q4_1": Block("uint4:g32:fp16:min", {0: ONE + NONE}, {2: NONE + b"\x11" * 16}, {4: b"\0" * 16}),
    "Q5_0": Block("int5:g32:fp16", {0: ONE}, {2: b"\xff" * 4 + b"\x11" * 16}),
    "Q5_1": Block(
        "uint5:g32:fp16:min",
        {0: ONE + NONE},
        {2: NONE + b"\0" * 4 + b"\x11" * 16},
        {4: b"\0" * 20},
    ),
    "Q8_0": Block("int8:g32:fp16", {0: ONE}, {2: b"\1" * 32}),
    # The scales of K-quants are products of two numbers: exact in float32, wider than in the file.
    "Q2_K": Block(
        "uint2:g16:min",
        {0: b"\1" * 16, 80: ONE + NONE},
        {16: b"\x55" * 64, 82: NONE},
        {16: b"\0" * 64},
    ),
    "Q3_K": Block(
        "int3:g16",
        {96: b"\x11" * 8 + b"\xaa" * 4 + ONE},
        {0: b"\xff" * 32 + b"\x55" * 64},
    ),
    "Q4_K": Block(
        "uint4:g32:min",
        {0: ONE + NONE + SIX_BIT_ONES},
        {2: NONE, 16: b"\x11" * 128},
        {16: b"\0" * 128},
    ),
    "Q5_K": Block(
        "uint5:g32:min",
        {0: ONE + NONE + SIX_BIT_ONES},
        {2: NONE, 16: b"\0" * 32 + b"\x11" * 128},
        {16: b"\0" * 160},
    ),
    "Q6_K": Block("int6:g16", {192: b"\1" * 16 + ONE}, {0: b"\x11" * 128 + b"\xaa" * 64}),
    "TQ1_0": Block("ternary:g256:fp16", {52: ONE}, {0: b"\xff" * 48 + b"\xfd" * 4}),
    "TQ2_0": Block("ternary:g256:fp16", {64: ONE}, {0: b"\xaa" * 64}),
    "MXFP4": Block("fp4_e2m1:g32:e8m0", {0: b"\x7f"}, {1: b"\x22" * 16}),
    "NVFP4": Block("fp4_e2m1:g16:e4m3", {0: b"\x38" * 4}, {4: b"\x22" * 32}),
    "IQ4_NL": Block("iq4_nl:g32:fp16", {0: ONE}, {2: b"\x88" * 16}),
    "IQ4_XS": Block("iq4_nl:g32", {0: ONE + b"\xaa\xaa" + b"\x11" * 4}, {8: b"\x88" * 128}),
}


def has_equal(tensor: TensorInfo) -> bool:
    """Whether a tensor is a matrix in a block type that Ladder has."""
    return tensor.type in BLOCKS and len(tensor.shape) == 2


def codes_of(tensor: TensorInfo) -> Codes:
    """The codes and scales of a tensor [N, K] for which ``has_equal`` holds."""
    block = BLOCKS[tensor.type]
    dtype = DType.parse(block.type)
    size = dtype.group_size(tensor.shape[1])
    scale = _decoded(tensor, block.ones)[:, ::size]
    minimum = _decoded(tensor, block.zeros)[:, ::size] if dtype.minimum else None
    return Codes(
        dtype,
        _codes(tensor, dtype, _decoded(tensor, block.unscaled)),
        _stored(tensor, scale, dtype),
        None if minimum is None else _stored(tensor, minimum, dtype),
        np.float32(1) if dtype.tensor_scale else None,
    )


def _decoded(tensor: TensorInfo, changes: Bytes) -> np.ndarray:
    """What gguf decodes, float32 [N, K], after some bytes of every block were replaced."""
    import gguf

    kind = gguf.GGMLQuantizationType[tensor.type]
    blocks = raw_of(tensor).reshape(-1, gguf.GGML_QUANT_SIZES[kind][1]).copy()
    for at, new in changes.items():
        blocks[:, at : at + len(new)] = np.frombuffer(new, np.uint8)
    values = gguf.dequantize(blocks.reshape(tensor.shape[0], -1), kind)
    return np.asarray(values, np.float32).reshape(tensor.shape)


def _codes(tensor: TensorInfo, dtype: DType, values: np.ndarray) -> np.ndarray:
    """The codes of an element that have these values; the first of several."""
    known = np.nan_to_num(dtype.element.values)
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], values).clip(0, len(order) - 1)
    unsigned = order.astype(np.uint8)[place]
    if not np.array_equal(known[unsigned], values):
        raise _damaged(tensor, f"codes that {tensor.type} has not")
    return dtype.element.from_unsigned(unsigned)


def _stored(tensor: TensorInfo, values: np.ndarray, dtype: DType) -> np.ndarray:
    """Scales or minima in the type that they are stored in."""
    if not np.isfinite(values).all():
        raise _damaged(tensor, "scales that are not finite")
    return np.ascontiguousarray(values).astype(SCALES[dtype.scale])


def _damaged(tensor: TensorInfo, what: str) -> LadderError:
    return LadderError(f"{tensor.path}: {tensor.name} has {what}; the file is damaged")
