"""GPT-OSS: experts in four-bit floats, 32 of them with one scale that is a power of two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ladder.frontend.packed.bits import nibbles
from ladder.frontend.packed.stored import StoredTensor, array, need
from ladder.frontend.weight_files import RawTensor
from ladder.ir.element import ELEMENTS


def experts(
    owner: str, parts: Mapping[str, RawTensor], settings: Mapping[str, Any]
) -> StoredTensor:
    """``_blocks`` uint8 [E, N, G, 16] and ``_scales`` uint8 [E, N, G] -> [E, K, N], K = 32 G."""
    blocks, scales = need(parts, "_blocks", owner), need(parts, "_scales", owner)
    experts, n, groups, size = blocks.shape
    k = groups * size * 2

    def read() -> np.ndarray:
        values = ELEMENTS["fp4_e2m1"].values[nibbles(array(blocks))]
        powers = array(scales).astype(np.int32) - 127
        weight: np.ndarray = np.ldexp(values, powers[..., None]).reshape(experts, n, k)
        return np.ascontiguousarray(weight.transpose(0, 2, 1))

    return StoredTensor((experts, k, n), read)
