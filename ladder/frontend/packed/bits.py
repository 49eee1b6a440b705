"""Codes that are packed into wider integers."""

from __future__ import annotations

import numpy as np


def unpacked(words: np.ndarray, bits: int) -> np.ndarray:
    """Codes of ``bits`` bits, the lowest first, along the last axis of integers [..., W].

    The words of a row are one stream of bits, so that a code may begin in one word and end in the
    next. Returns uint8 [..., W * word size // bits].
    """
    raw = np.ascontiguousarray(words).view(np.uint8)
    stream = np.unpackbits(raw, axis=-1, bitorder="little")
    count = stream.shape[-1] // bits
    digits = stream[..., : count * bits].reshape(*stream.shape[:-1], count, bits)
    codes: np.ndarray = np.packbits(digits, axis=-1, bitorder="little")[..., 0]
    return codes


def nibbles(packed: np.ndarray) -> np.ndarray:
    """The two codes of every byte, low one first: uint8 [..., B] -> [..., 2 B]."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
