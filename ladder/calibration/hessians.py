"""Hessians: the mean of x x' for each product's input in the float model, on calibration data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ladder.calibration.collect import summarised
from ladder.calibration.data import Data
from ladder.frontend.types import Source
from ladder.ir.facts import Hessians
from ladder.ir.numerics import F32
from ladder.ir.site import find_sites
from ladder.support import cache
from ladder.support.threads import own_threads


class Moments:
    """The mean of x x' [K, K] of rows [M, K]."""

    def __init__(self) -> None:
        self._sum, self._rows = np.zeros((), np.float32), 0

    def add(self, x: F32) -> None:
        self._sum = self._sum + x.T @ x
        self._rows += len(x)

    def result(self) -> F32:
        mean: F32 = self._sum / np.float32(self._rows)
        return mean


def collect(source: Source, data: Data, threads: int = 0, folder: Path | None = None) -> Hessians:
    """The fact ``Hessians`` for the sites of a source's model, from the cache if it is there.

    The files are written to ``folder`` in the cache.
    """
    sites = find_sites(source.model)[0]
    place = folder or cache.entry("hessians", source.digest, data.digest, len(sites))
    files, missing = summarised(source.model, sites, data, Moments, threads or own_threads(), place)
    return Hessians(files, missing, len(data.feeds) * data.tokens, data.name)
