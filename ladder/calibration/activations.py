"""The magnitude of each channel of a product's input, and the rows of some tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ladder.calibration.collect import WINDOWS_AT_A_TIME, summarised
from ladder.calibration.data import Data
from ladder.frontend.types import Source
from ladder.ir.numerics import F32
from ladder.ir.outliers import Activations
from ladder.ir.site import find_sites
from ladder.support import cache
from ladder.support.threads import own_threads

KEPT_ROWS = 256  # of each operand: enough to rank errors that differ by a few percent


class Magnitudes:
    """The largest magnitudes [K] of rows [M, K], and some rows of every batch that is added."""

    def __init__(self, rows: int) -> None:
        self._rows, self._kept = rows, [np.zeros((1, 0), np.float32)]

    def add(self, x: F32) -> None:
        self._kept[0] = np.maximum(
            self._kept[0] if self._kept[0].size else 0, np.abs(x).max(0)[None]
        )
        # The first token of a text often has the largest magnitudes, so it is always kept.
        chosen = np.linspace(0, len(x) - 1, min(self._rows, len(x))).astype(np.int64)
        self._kept.append(x[chosen])

    def result(self) -> F32:
        return np.concatenate(self._kept)


def collect_activations(
    source: Source, data: Data, threads: int = 0, folder: Path | None = None
) -> Activations:
    """The fact ``Activations`` for the sites of a source's model, from the cache if it is there.

    The files are written to ``folder`` in the cache.
    """
    sites = find_sites(source.model)[0]
    place = folder or cache.entry("activations", source.digest, data.digest, len(sites))
    times = -(-len(data.feeds) // WINDOWS_AT_A_TIME)
    files, missing = summarised(
        source.model,
        sites,
        data,
        lambda: Magnitudes(-(-KEPT_ROWS // times)),
        threads or own_threads(),
        place,
    )
    return Activations(files, missing, len(data.feeds) * data.tokens, data.name)
