"""The places of the digits of outlier channels: chunks before those of all channels.

Activation codes and weights agree on this order of chunks (``ladder.codegen.layout``):

    [aux digit D | ... | aux digit 1 | body]        A chunks each, then those of all of K

The outliers of a scale block take whole chunks, so that the block can be multiplied separately;
chunks ``starts[b]`` .. ``starts[b + 1]`` of every digit are those of block b. The codes of the
weights of outliers are stored once more for each digit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ladder.codegen.layout import (
    CHUNK,
    PART,
    Packing,
    blocks_of,
    chunks_of,
    pack_codes,
    total_chunks,
)
from ladder.ir.mux import Mux
from ladder.ir.numerics import F32, I32, LUT_GROUP, U8

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AuxLayout:
    """The places of outlier ``channels`` (ascending) of K, in scale blocks of ``block``.

    The outliers of a block take a multiple of ``unit`` chunks.
    """

    channels: tuple[int, ...]
    k: int
    block: int
    mux: Mux
    unit: int = 1

    @staticmethod
    def of(channels: I64, k: int, block: int, mux: Mux, unit: int = 1) -> AuxLayout:
        return AuxLayout(tuple(int(c) for c in channels), k, block, mux, unit)

    @property
    def whole(self) -> bool:
        """Whether there is one scale block, all of K."""
        return self.block >= self.k

    @property
    def body_chunks(self) -> int:
        return total_chunks(self.k, PART if self.whole else self.block)

    @property
    def chunks(self) -> int:
        """C: the number of all chunks."""
        return self.mux.digits * int(self.starts[-1]) + self.body_chunks

    @property
    def starts(self) -> I32:
        """The first chunk of every block within a digit, and the end: int32 [B + 1]."""
        blocks = blocks_of(self.k, self.block)
        counts = np.bincount(np.array(self.channels, np.int64) // self.block, minlength=blocks)
        taken = -(-counts // (CHUNK * self.unit)) * self.unit
        return np.concatenate([[0], np.cumsum(taken)]).astype(np.int32)

    @property
    def places(self) -> I64:
        """The place of each outlier within a digit's chunks."""
        block_of = np.array(self.channels, np.int64) // self.block
        within = np.arange(len(block_of)) - np.searchsorted(block_of, block_of)
        first: I64 = self.starts[block_of].astype(np.int64) * CHUNK
        return first + within

    @property
    def table(self) -> I32:
        """int32 [O, 4]: channel, byte of its body code, byte of its code in the first digit's
        chunks, scale block."""
        channels = np.array(self.channels, np.int64)
        block_of, within = np.divmod(channels, self.block)
        front = self.mux.digits * int(self.starts[-1])
        body = (front + block_of * chunks_of(self.block)) * CHUNK + within
        rows = channels, _by_quad(body), _by_quad(self.places), block_of
        return np.stack(rows, 1).astype(np.int32)

    @property
    def small(self) -> F32:
        """float32 [body chunks, 16]: the factor of each channel's magnitude for the scale."""
        out = np.ones((self.body_chunks, CHUNK), np.float32)
        block_of, within = np.divmod(np.array(self.channels, np.int64), self.block)
        at = block_of * chunks_of(self.block) * CHUNK + within
        out.reshape(-1)[at] = np.float32(1 / self.mux.reach)
        return out

    @property
    def numbers(self) -> I32:
        """int32 [2]: the number of digits, and their base."""
        return np.array([self.mux.digits, self.mux.factor], np.int32)

    def pack(self, codes: U8, packing: Packing) -> I32:
        """Unsigned codes [N, K] -> packed, with the outliers' chunks first."""
        aux = np.zeros((len(codes), int(self.starts[-1]) * CHUNK), np.uint8)
        aux[:, self.places] = codes[:, list(self.channels)]
        front = pack_codes(aux, replace(packing, block=CHUNK))
        body = pack_codes(codes, packing)
        return np.concatenate([front] * self.mux.digits + [body], 1)


def _by_quad(at: I64) -> I64:
    """The byte of weight ``at`` % 16 of a chunk, which is ordered by quads."""
    chunk, e = at // CHUNK, at % CHUNK
    return chunk * CHUNK + e % LUT_GROUP * LUT_GROUP + e // LUT_GROUP
