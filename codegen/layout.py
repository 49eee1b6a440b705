"""The physical layout of low-bit weights: one for all x86 levels, so one packed copy serves all.

Names: N out features, K in features, M tokens, B scale blocks of ``block`` weights (the last may
be short). Codes are unsigned: ``code = element + offset``.

- *chunk*: 16 weights along K, which is 4 table groups of 4 weights. A block has
  ``CH = ceil(block / 16)`` chunks and always begins a new one; the last block of K stores only
  the chunks that it needs. C is their total. Padding weights have code 0 and their tables are
  all zero, so they change nothing.
- *tile*: 64 rows of the weight, N padded up. ``NT = ceil(N / 64)``.
- *planes*: int32 [NT, C, bits, 2, 16]. Byte j of dword (tile, chunk, bit, v, r) belongs to
  table group j of the chunk. Its low nibble is the 4-bit table index of row ``64 tile + 32 v + r``
  (bit i of the index is bit ``bit`` of weight i of the group), its high nibble that of row
  ``64 tile + 32 v + 16 + r``. One 64-byte load feeds two ``vpermb``, and a tile is one
  contiguous stream.
- *quad*: the four weights i, i + 4, i + 8, i + 12 of a chunk (weight i of each table group),
  which is a dword if codes are bytes: what a dot product multiplies at once. Shifting a plane by
  i leaves a bit of such a quad in every byte, so unpacking needs no look-ups.
- *trits*, of ``ternary``: five codes 0..2 in a byte, int32 [NT, U, 2, 2, 16] in place of planes.
  The quads of all chunks, in order, form units of five (U = ceil(4 C / 5), the last one padded);
  units cross the borders of blocks. Dword (tile, unit, v, h, r) belongs to row
  ``64 tile + 32 v + 16 h + r``; its byte j holds code j of each of the five quads as
  84 c0 + 28 c1 + 9 c2 + 3 c3 + c4: because 28 is a multiple of 4, the upper six bits give the
  first two codes by a look-up in 64 entries, and the remainder needs five bits.
- *row values*, rows in natural order: the weight scale [NT, S, 64] in the type it is stored in
  (as raw bits, except for fp32), and for types that have one the zero point [NT, S, 64]: the
  unsigned code that means 0.0 as uint8, or a float stored like the scale. S is B if there are
  groups along K (groups larger than a block are repeated), else 1.
- *activation codes*: int8 [M, C, 16] with quad i of a chunk at bytes 4 i .. 4 i + 3, scale
  float32 [M, B], sum of codes int32 [M, B].
- *tables* of one byte (``table8``, and the exact ones of ``int4`` and ``int2``): int8
  [M, C, 64], entry e of table group j at byte ``16 j + e``.
- *tables* of mode ``int8``: the exact int16 sums as two planes of bytes, int8 [M, C, 2, 64]:
  plane 0 holds the low byte (read as unsigned), plane 1 the signed high byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ladder.ir.dtype import FLOAT_ZERO, MINIMUM, DType
from ladder.ir.numerics import I32, LUT_GROUP, U8
from ladder.ir.scale import SCALE_TYPES
from ladder.ir.storage import PLANES, STORAGES, TRITS, Storage

CHUNK = 16
TILE = 64
LANES = 16  # dwords of one plane vector
# The part of K that is unpacked at a time if one sum goes over all of K.
PART = PLANES.part * CHUNK
GATHER_BITS = np.uint32(1 << 24 | 1 << 17 | 1 << 10 | 1 << 3)


@dataclass(frozen=True)
class Packing:
    """The parts of a type that change a kernel's code, and nothing else."""

    bits: int
    block: int
    grouped: bool  # row values differ from block to block
    offset: int  # value = step * code - offset, if no zero point is stored
    zero: str = ""  # "zp": a byte is stored per row value, "zpf" and "min": a float like the scale
    step: int = 1
    scale: str = "fp32"  # the type that scales are stored in
    digits: int = 0  # of a code book's integers; 0: codes are integers themselves
    storage: str = ""  # how codes are stored in memory: ``ladder.ir.storage``
    whole: bool = False  # one integer sum over all of K: a block is then only a part of it
    mux: bool = False  # chunks of outliers before the others (``ladder.codegen.mux_layout``)

    @staticmethod
    def of(dtype: DType, whole: bool = False, mux: bool = False) -> Packing:
        """The packing of a low-bit type."""
        element, levels = dtype.element, dtype.levels
        return Packing(
            dtype.bits,
            element.storage.part * CHUNK if whole else dtype.block,
            isinstance(dtype.group, int),
            element.offset,
            dtype.zero,
            element.step,
            dtype.scale,
            len(levels.digits) if levels else 0,
            element.storage.name,
            whole,
            mux,
        )

    @property
    def kind(self) -> Storage:
        return STORAGES[self.storage]

    @property
    def shares_bytes(self) -> bool:
        """Whether several codes share a byte, in units that cross the borders of blocks."""
        return self.kind.per_byte > 0

    @property
    def looked_up(self) -> bool:
        """Whether products can be computed by look-ups for its bit planes."""
        return not self.digits and not self.shares_bytes

    @property
    def carried(self) -> bool:
        """Whether integer sums are carried over several runs of chunks."""
        return self.whole or self.mux

    @property
    def factor(self) -> bool:
        """Whether every scale has one more factor: a code book's unit or a tensor's scale."""
        return self.digits > 0 or SCALE_TYPES[self.scale].of_tensor

    @property
    def chunks(self) -> int:
        """Chunks of one whole block."""
        return chunks_of(self.block)

    @property
    def entries(self) -> int:
        """Entries of a code book as kernels read it: one for every code."""
        return 1 << self.bits

    @property
    def scale_type(self) -> str:
        """The type of the elements that scales are stored as: raw bits, except for fp32."""
        return SCALE_TYPES[self.scale].bits_type

    @property
    def zero_type(self) -> str:
        """The type of the elements that zero points are stored as."""
        return self.scale_type if self.float_zero else "uint8"

    @property
    def float_zero(self) -> bool:
        """Whether zero points are stored as floats, like the scales."""
        return self.zero in (FLOAT_ZERO, MINIMUM)

    @property
    def minimum(self) -> bool:
        """Whether a stored float is added to the codes after scaling."""
        return self.zero == MINIMUM

    def plane_shape(self, n: int, k: int) -> tuple[int, int, int, int, int]:
        """The shape of the packed codes [N, K]: planes, or trits."""
        lines = units_of(total_chunks(k, self.block), self.kind)
        return (tiles_of(n), lines, self.bits, 2, LANES)

    def __str__(self) -> str:
        granularity = "g" if self.grouped else "r"
        parts = [f"b{self.bits}", f"k{self.block}{granularity}", self.zero or f"o{self.offset}"]
        parts += [f"s{self.step}"] if self.step != 1 else []
        parts += [self.scale] if self.scale != "fp32" else []
        parts += [f"d{self.digits}"] if self.digits else []
        parts += [self.storage] if self.storage else []
        for name in ("whole", "mux"):
            parts += [name] if getattr(self, name) else []
        return "_".join(parts)


def chunks_of(weights: int) -> int:
    """The number of chunks of ``weights`` neighbouring weights."""
    return -(-weights // CHUNK)


def blocks_of(k: int, block: int) -> int:
    """B: the number of scale blocks of K features."""
    return -(-k // block)


def tiles_of(n: int) -> int:
    """NT: the number of row tiles of N features."""
    return -(-n // TILE)


def total_chunks(k: int, block: int) -> int:
    """C: the number of chunks of K features."""
    return k // block * chunks_of(block) + chunks_of(k % block)


def units_of(chunks: int, storage: Storage) -> int:
    """U: the number of units that hold ``chunks`` chunks."""
    return -(-chunks * LUT_GROUP // storage.quads)


def chunk_starts(k: int, block: int) -> list[int]:
    """The first chunk of every block."""
    return [b * chunks_of(block) for b in range(blocks_of(k, block))]


def to_chunks(x: npt.NDArray[np.generic], block: int) -> npt.NDArray[np.generic]:
    """[R, K] -> [R, C * 16], zeros where a block ends within a chunk."""
    rows, k = x.shape
    full, padded = k // block, chunks_of(block) * CHUNK
    out = np.zeros((rows, total_chunks(k, block) * CHUNK), x.dtype)
    whole = out[:, : full * padded].reshape(rows, full, padded)
    whole[..., :block] = x[:, : full * block].reshape(rows, full, block)
    out[:, full * padded : full * padded + k % block] = x[:, full * block :]
    return out


def from_chunks(x: npt.NDArray[np.generic], k: int, block: int) -> npt.NDArray[np.generic]:
    """[R, C * 16] -> [R, K]: undo ``to_chunks``."""
    rows, full, padded = len(x), k // block, chunks_of(block) * CHUNK
    whole = x[:, : full * padded].reshape(rows, full, padded)[..., :block]
    rest = x[:, full * padded : full * padded + k % block]
    return np.concatenate([whole.reshape(rows, -1), rest], 1)


def pack_codes(codes: U8, packing: Packing) -> I32:
    """Unsigned codes [N, K] -> ``packing.plane_shape(N, K)``."""
    return PACK[packing.storage](codes, packing)


def pack_planes(codes: U8, bits: int, block: int) -> I32:
    """Unsigned codes [N, K] -> planes [NT, C, bits, 2, 16]."""
    n, k = codes.shape
    tiles, chunks = tiles_of(n), total_chunks(k, block)
    groups = to_chunks(codes, block).view(np.uint32)  # one table group of codes in each dword
    planes = np.zeros((tiles, chunks, bits, 2, LANES), np.uint32)
    index = np.zeros((tiles * TILE, chunks * LUT_GROUP), np.uint8)
    for bit in range(bits):
        one = groups >> np.uint32(bit) & np.uint32(0x01010101)
        one *= GATHER_BITS  # the four bits meet, in order, at bit 24
        np.right_shift(one, np.uint32(24), out=one)
        np.bitwise_and(one, np.uint32(15), out=index[:n], casting="unsafe")
        half = index.view(np.uint32).reshape(tiles, 2, 2, LANES, chunks)
        both = half[:, :, 0] | half[:, :, 1] << np.uint32(4)
        planes[:, :, bit] = both.transpose(0, 3, 1, 2)
    return planes.view(np.int32)


def unpack_planes(planes: I32, n: int, k: int, bits: int, block: int) -> U8:
    """Planes [NT, C, bits, 2, 16] -> unsigned codes [N, K]."""
    tiles, chunks = planes.shape[:2]
    nibbles = np.ascontiguousarray(planes).view(np.uint8).reshape(*planes.shape, LUT_GROUP)
    halves = np.stack([nibbles & 15, nibbles >> 4], 4)  # [NT, C, bits, 2, half, 16, group]
    index = halves.transpose(2, 0, 3, 4, 5, 1, 6).reshape(bits, tiles * TILE, chunks * LUT_GROUP)
    codes = np.zeros((tiles * TILE, chunks * CHUNK), np.uint8)
    for bit in range(bits):
        for j in range(LUT_GROUP):
            codes[:, j::LUT_GROUP] |= (index[bit] >> j & 1) << bit
    return from_chunks(codes[:n], k, block).astype(np.uint8)


def pack_trits(codes: U8, block: int) -> I32:
    """Codes 0..2 [N, K] -> trits [NT, U, 2, 2, 16]."""
    n, k = codes.shape
    tiles, chunks = tiles_of(n), total_chunks(k, block)
    units, per_byte = units_of(chunks, TRITS), TRITS.per_byte
    digits = np.zeros((tiles * TILE, units * per_byte, LUT_GROUP), np.uint8)
    groups = to_chunks(codes, block).reshape(n, chunks, LUT_GROUP, LUT_GROUP)
    digits[:n, : chunks * LUT_GROUP] = groups.swapaxes(2, 3).reshape(n, -1, LUT_GROUP)
    by_unit = digits.reshape(tiles * TILE, units, per_byte, LUT_GROUP)
    stored = np.einsum("nuij,i->nuj", by_unit, np.array(TRITS.weights, np.uint8))
    words = stored.view(np.int32).reshape(tiles, TILE, units)
    return np.ascontiguousarray(words.swapaxes(1, 2)).reshape(tiles, units, 2, 2, LANES)


def unpack_trits(trits: I32, n: int, k: int, block: int) -> U8:
    """Trits [NT, U, 2, 2, 16] -> codes 0..2 [N, K]."""
    tiles, units = trits.shape[:2]
    words = np.ascontiguousarray(trits.reshape(tiles, units, TILE).swapaxes(1, 2))
    rest = words.view(np.uint8).reshape(tiles * TILE, units, LUT_GROUP)
    digits = np.zeros((*rest.shape[:2], TRITS.per_byte, LUT_GROUP), np.uint8)
    for i, weight in enumerate(TRITS.weights):
        digits[:, :, i], rest = np.divmod(rest, np.uint8(weight))
    chunks = total_chunks(k, block)
    quads = digits.reshape(tiles * TILE, -1)[:, : chunks * CHUNK]
    codes = quads.reshape(-1, chunks, LUT_GROUP, LUT_GROUP).swapaxes(2, 3)
    return from_chunks(codes.reshape(tiles * TILE, -1)[:n], k, block).astype(np.uint8)


PACK: dict[str, Callable[[U8, Packing], I32]] = {
    PLANES.name: lambda codes, packing: pack_planes(codes, packing.bits, packing.block),
    TRITS.name: lambda codes, packing: pack_trits(codes, packing.block),
}


def pack_rows(
    values: npt.NDArray[np.generic], dtype: DType, n: int, k: int
) -> npt.NDArray[np.generic]:
    """Scales or zero points in the shape ``dtype.scale_shape(n, k)`` -> [NT, S, 64]."""
    per_group = np.broadcast_to(values, (n, values.shape[1]))
    if isinstance(dtype.group, int):
        group_of_block = np.arange(blocks_of(k, dtype.block)) * dtype.block // dtype.group
        per_group = per_group[:, group_of_block]
    out = np.zeros((tiles_of(n) * TILE, per_group.shape[1]), values.dtype)
    out[:n] = per_group
    return np.ascontiguousarray(out.reshape(tiles_of(n), TILE, -1).transpose(0, 2, 1))
