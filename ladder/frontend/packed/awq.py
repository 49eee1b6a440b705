"""AWQ: four-bit codes packed along N in 32-bit words, the eight of a word in AWQ's own order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ladder.frontend.packed.bits import unpacked
from ladder.frontend.packed.gptq import grouped
from ladder.frontend.packed.stored import StoredTensor, array, need, of_codes, setting
from ladder.frontend.weight_files import RawTensor

ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # the place in a word of each of its eight columns


def read(owner: str, parts: Mapping[str, RawTensor], settings: Mapping[str, Any]) -> StoredTensor:
    """``qweight`` [K, N/8], ``qzeros`` [G, N/8], ``scales`` [G, N]."""
    bits = setting({"bits": settings.get("w_bit", 4), **settings}, "bits", (4,))
    setting({"version": str(settings.get("version", "gemm")).lower()}, "version", ("gemm",))
    words, scales = need(parts, ".qweight", owner), need(parts, ".scales", owner)
    k, n = words.shape[0], words.shape[1] * 8
    zero = _columns(need(parts, ".qzeros", owner)).T
    size = k // scales.shape[0]
    return of_codes((n, k), lambda: grouped(_columns(words).T.copy(), scales, zero, bits, size))


def _columns(words: RawTensor) -> np.ndarray:
    """uint8 [R, N] of words [R, N/8]."""
    codes = unpacked(array(words), 4)
    return codes.reshape(len(codes), -1, 8)[:, :, ORDER].reshape(len(codes), -1)
