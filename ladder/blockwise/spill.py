"""Keeps arrays for a whole measurement: in memory up to a limit, then on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import psutil

SHARE = 0.5  # the limit, as a share of the memory that is free at the start


class SpillStore:
    """Takes arrays and returns equal ones that may be stored on disk."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = int(psutil.virtual_memory().available * SHARE) if limit is None else limit
        self.used = self.on_disk = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def fits(self, size: int, share: float = 1.0) -> bool:
        """Whether ``size`` more bytes stay within this share of the limit."""
        return self.used + size <= share * self.limit

    def put(self, array: np.ndarray) -> np.ndarray:
        if self.fits(array.nbytes) or array.nbytes == 0:
            self.used += array.nbytes
            return array
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="ladder-activations-")
        path = Path(self._folder.name) / f"{self.on_disk}"
        self.on_disk += array.nbytes
        out = np.memmap(path, array.dtype, "w+", shape=array.shape)
        out[...] = array
        return out
