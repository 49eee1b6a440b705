"""Rungs: the operators between the codes of a weight and the product that reads them.

They are the primitives of the Ladder paper (OSDI'24) as operators of the dialect: slice
(SplitPlanes), pad (PadPlanes), map (PackPlanes: the physical layout), convert (LookUpCodes: a code
book's entries as integers). Each has an inverse, which a kernel computes in registers. Code
generation computes the rungs before memory when it packs the weights, and those after memory in the
kernel.

    codes [N, K] -> SplitPlanes -> [bits, N, K] of 0 and 1
                 -> PadPlanes   -> [bits, 64 NT, 16 C]     whole row tiles, chunks of K
                 -> PackPlanes  -> uint8 [NT, C, bits, 2, 16, 4], as ``ladder.codegen.layout``
                 -> UnpackPlanes -> CropPlanes -> JoinPlanes -> codes
    codes [N, K] -> LookUpCodes -> digits uint8 [D, N, K]

``ternary`` has one plane of digits 0, 1, 2, which PackPlanes writes five to a byte: uint8
[NT, U, 2, 2, 16, 4]. Overloads are ``type`` or ``type@NxK``.
"""

from __future__ import annotations

import onnx_ir as ir

from ladder.ir import bodies
from ladder.ir.dtype import DType
from ladder.ir.onnx_lines import shape
from ladder.ir.storage import CHUNK, GROUP, LANES, TILE

DOWN = {"planes": "SplitPlanes", "pad": "PadPlanes", "repack": "PackPlanes"}
UP = {"planes": "JoinPlanes", "pad": "CropPlanes", "repack": "UnpackPlanes"}
LOOK_UP = "LookUpCodes"
RUNGS = (*DOWN.values(), *UP.values(), LOOK_UP)


def parse_overload(overload: str) -> tuple[DType, int, int]:
    """``type@NxK`` -> (type, N, K); zeros where no shape is given."""
    text, _, shape = overload.partition("@")
    n, _, k = shape.partition("x")
    return DType.parse(text), int(n or 0), int(k or 0)


def result_type(op: str, overload: str) -> ir.DataType:
    """The type of a rung's result: bytes, signed if they are codes that may be negative."""
    signed = op == "JoinPlanes" and parse_overload(overload)[0].element.low < 0
    return ir.DataType.INT8 if signed else ir.DataType.UINT8


def planes_of(dtype: DType) -> int:
    """The number of planes of a type's codes: its bits, or one for base-3 digits."""
    return 1 if dtype.element.storage.per_byte else dtype.bits


def body(op: str, overload: str) -> tuple[str, str, list[str]]:
    """(name of the input, name of the output, lines) of a rung's function."""
    dtype, n, k = parse_overload(overload)
    if op == LOOK_UP:
        return "codes", "digits", _look_up(dtype)
    lines = {
        "SplitPlanes": _split,
        "PadPlanes": _pad,
        "PackPlanes": _pack,
        "UnpackPlanes": _unpack,
        "CropPlanes": _crop,
        "JoinPlanes": _join,
    }[op](dtype, n, k)
    return ("codes" if op == "SplitPlanes" else "x"), "y", lines


def padded_shape(dtype: DType, n: int, k: int) -> tuple[int, int]:
    """Rows and columns of padded planes."""
    chunks = k // dtype.block * _chunks(dtype.block) + _chunks(k % dtype.block)
    return -(-n // TILE) * TILE, chunks * CHUNK


def _chunks(weights: int) -> int:
    return -(-weights // CHUNK)


def _look_up(dtype: DType) -> list[str]:
    found = dtype.levels
    assert found is not None
    lines = ["entry = Cast <to=6> (codes)", "first = Constant <value_ints=[0]> ()"]
    for d, digits in enumerate(found.digits):
        lines += [
            f"wide{d} = Constant <value_ints=[{', '.join(str(int(v)) for v in digits)}]> ()",
            f"table{d} = Cast <to=2> (wide{d})",
            f"found{d} = Gather (table{d}, entry)",
            f"digit{d} = Unsqueeze (found{d}, first)",
        ]
    every = ", ".join(f"digit{d}" for d in range(len(found.digits)))
    return [*lines, f"digits = Concat <axis=0> ({every})"]


def _bytes(name: str, value: int) -> list[str]:
    return [f"{name}64 = Constant <value_int={value}> ()", f"{name} = Cast <to=2> ({name}64)"]


def _split(dtype: DType, n: int, k: int) -> list[str]:
    if dtype.element.storage.per_byte:
        return [*bodies.unsigned_codes(dtype), shape("first", 0), "y = Unsqueeze (u, first)"]
    lines = [*bodies.unsigned_codes(dtype), *_bytes("one", 1), shape("first", 0)]
    for b in range(dtype.bits):
        lines += [
            *_bytes(f"by{b}", b),
            f'moved{b} = BitShift <direction="RIGHT"> (u, by{b})',
            f"bit{b} = BitwiseAnd (moved{b}, one)",
            f"plane{b} = Unsqueeze (bit{b}, first)",
        ]
    every = ", ".join(f"plane{b}" for b in range(dtype.bits))
    return [*lines, f"y = Concat <axis=0> ({every})"]


def _join(dtype: DType, n: int, k: int) -> list[str]:
    element, weights = dtype.element, ", ".join(str(1 << b) for b in range(planes_of(dtype)))
    lines = [
        "wide = Cast <to=6> (x)",
        f"weights64 = Constant <value_ints=[{weights}]> ()",
        "weights32 = Cast <to=6> (weights64)",
        shape("spread", planes_of(dtype), 1, 1),
        "weights = Reshape (weights32, spread)",
        "weighed = Mul (wide, weights)",
        shape("axis", 0),
        "u = ReduceSum <keepdims=0> (weighed, axis)",
        f"step64 = Constant <value_int={element.step}> ()",
        "step = Cast <to=6> (step64)",
        f"low64 = Constant <value_int={element.low}> ()",
        "low = Cast <to=6> (low64)",
        "stepped = Mul (u, step)",
        "value = Add (stepped, low)",
    ]
    return [*lines, f"y = Cast <to={3 if element.low < 0 else 2}> (value)"]


def _pad(dtype: DType, n: int, k: int) -> list[str]:
    """Pad each scale block with zeros to whole chunks, and the rows to whole tiles."""
    rows, columns = padded_shape(dtype, n, k)
    block, wide, blocks = dtype.block, _chunks(dtype.block) * CHUNK, -(-k // dtype.block)
    return [
        shape("ends", 0, 0, 0, 0, rows - n, blocks * block - k),
        "whole = Pad (x, ends)",
        shape("in_blocks", planes_of(dtype), rows, blocks, block),
        "blocks = Reshape (whole, in_blocks)",
        shape("fill", 0, 0, 0, 0, 0, 0, 0, wide - block),
        "wide = Pad (blocks, fill)",
        shape("flat", planes_of(dtype), rows, blocks * wide),
        "long = Reshape (wide, flat)",
        *_first_columns("long", columns),
    ]


def _crop(dtype: DType, n: int, k: int) -> list[str]:
    rows, columns = padded_shape(dtype, n, k)
    block, wide, blocks = dtype.block, _chunks(dtype.block) * CHUNK, -(-k // dtype.block)
    return [
        shape("ends", 0, 0, 0, 0, 0, blocks * wide - columns),
        "long = Pad (x, ends)",
        shape("in_blocks", planes_of(dtype), rows, blocks, wide),
        "wide_blocks = Reshape (long, in_blocks)",
        shape("zero", 0),
        shape("last", 3),
        shape("block", block),
        "blocks = Slice (wide_blocks, zero, block, last)",
        shape("flat", planes_of(dtype), rows, blocks * block),
        "whole = Reshape (blocks, flat)",
        shape("start", 0, 0),
        shape("size", n, k),
        shape("axes", 1, 2),
        "y = Slice (whole, start, size, axes)",
    ]


def _first_columns(name: str, columns: int) -> list[str]:
    return [
        shape("zero", 0),
        shape("columns", columns),
        shape("last", 2),
        f"y = Slice ({name}, zero, columns, last)",
    ]


def _pack(dtype: DType, n: int, k: int) -> list[str]:
    """Four bits to a nibble, two nibbles (rows 16 apart) to a byte; or the storage's packing."""
    rows, columns = padded_shape(dtype, n, k)
    own = dtype.element.storage.pack
    if own is not None:
        return own(rows, columns)
    tiles, chunks = rows // TILE, columns // CHUNK
    return [
        shape("split", dtype.bits, tiles, 2, 2, LANES, chunks, GROUP, GROUP),
        "parts = Reshape (x, split)",
        "wide = Cast <to=6> (parts)",
        "places64 = Constant <value_ints=[1, 2, 4, 8]> ()",
        "places = Cast <to=6> (places64)",
        "bits = Mul (wide, places)",
        shape("last", -1),
        "nibbles = ReduceSum <keepdims=0> (bits, last)",
        "halves64 = Constant <value_ints=[1, 16]> ()",
        "halves32 = Cast <to=6> (halves64)",
        shape("by_half", 2, 1, 1, 1),
        "halves = Reshape (halves32, by_half)",
        "placed = Mul (nibbles, halves)",
        shape("half_axis", 3),
        "both = ReduceSum <keepdims=0> (placed, half_axis)",
        "bytes = Cast <to=2> (both)",
        "y = Transpose <perm=[1, 4, 0, 2, 3, 5]> (bytes)",
    ]


def _unpack(dtype: DType, n: int, k: int) -> list[str]:
    rows, columns = padded_shape(dtype, n, k)
    own = dtype.element.storage.unpack
    if own is not None:
        return own(rows, columns)
    lines = [
        "turned = Transpose <perm=[2, 0, 3, 4, 1, 5]> (x)",
        shape("half_axis", 3),
        *_bytes("four", 4),
        *_bytes("low_bits", 15),
        "low = BitwiseAnd (turned, low_bits)",
        'high = BitShift <direction="RIGHT"> (turned, four)',
        "low_half = Unsqueeze (low, half_axis)",
        "high_half = Unsqueeze (high, half_axis)",
        "nibbles = Concat <axis=3> (low_half, high_half)",
        shape("last", -1),
        *_bytes("one", 1),
    ]
    for i in range(GROUP):
        lines += [
            *_bytes(f"by{i}", i),
            f'moved{i} = BitShift <direction="RIGHT"> (nibbles, by{i})',
            f"one{i} = BitwiseAnd (moved{i}, one)",
            f"bit{i} = Unsqueeze (one{i}, last)",
        ]
    return [
        *lines,
        "bits = Concat <axis=-1> (bit0, bit1, bit2, bit3)",
        shape("flat", dtype.bits, rows, columns),
        "y = Reshape (bits, flat)",
    ]
