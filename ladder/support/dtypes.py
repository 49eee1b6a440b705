"""The types of array elements that artifacts may have, by NumPy's names."""

from __future__ import annotations

import numpy as np

from ladder.errors import LadderError

ARRAY_TYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)


def item_size(name: str) -> int:
    """Bytes of an element of the type ``name``; another type is refused."""
    if name not in ARRAY_TYPES:
        raise LadderError(f"unknown type '{name:.40}'; the types are {', '.join(ARRAY_TYPES)}")
    return int(np.dtype(name).itemsize)
