"""What a unit computes, in NumPy: this file fixes the bits of the hardware."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ladder.hardware.tensor_cores import TensorCore

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]


def sign_planes(codes: U8, bits: int) -> I64:
    """Unsigned codes [N, K] as planes [bits, N, K] of -1 and +1, the highest bit first.

    A code is ``(sum of 2^t plane_t + 2^bits - 1) / 2``: weights become symmetric, and a table
    needs half of its entries.
    """
    planes = np.stack([(codes >> t) & 1 for t in reversed(range(bits))]).astype(np.int64)
    return 2 * planes - 1


def table_words(planes: I64, k: int) -> I64:
    """Planes [..., K] of -1 and +1 as the weights of a look-up column [..., K / k].

    A word is the index of an entry in its lower k - 1 bits, and the sign in the highest bit. For a
    negative sign the index is inverted, here and not in the hardware.
    """
    groups = planes.reshape(*planes.shape[:-1], -1, k) > 0
    negative = ~groups[..., -1]
    lower = groups[..., :-1] ^ negative[..., None]
    index = (lower << np.arange(k - 1)).sum(-1)
    return index | negative.astype(np.int64) << k - 1


def half_tables(x: I64, k: int) -> I64:
    """Activations [M, K] as tables [M, K / k, 2^(k-1)] of their sums; the last one is positive."""
    groups = x.reshape(len(x), -1, k)
    entry = np.arange(1 << k - 1)
    signs = np.where(entry[:, None] >> np.arange(k - 1) & 1, 1, -1)
    return groups[..., :-1] @ signs.T + groups[..., -1:]


def looked_up(core: TensorCore, tables: I64, words: I64) -> I64:
    """Sums [M, N] of tables [M, steps, 2^(k-1)] by words [planes, N, steps]."""
    index, sign = words & (1 << core.k - 1) - 1, words >> core.k - 1
    total = np.zeros((len(tables), words.shape[1]), np.int64)
    steps = np.arange(tables.shape[1])
    for plane_index, plane_sign in zip(index, sign, strict=True):
        entries = tables[:, steps, plane_index]
        total = 2 * total + np.where(plane_sign, -entries, entries).sum(-1)
    return total
