"""What the layers of a language model multiply, for the energy of tensor cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ladder.calibration.activations import collect_activations
from ladder.calibration.data import text_data
from ladder.codegen.hardware.workloads import Product, Workload
from ladder.errors import LadderError
from ladder.ir.site import Site, find_sites
from ladder.pipeline.sources import load_source

LAYERS, WINDOWS, TOKENS = 4, 2, 128


def layers_of(model: Path, trust: bool = False) -> Workload:
    """Products of layers that are spread over a language model, on a built-in text.

    Raises:
        LadderError: it is no language model, or none of its layers can be used.
    """
    source = load_source(model, trust)
    data = text_data(source, None, WINDOWS, TOKENS)
    known = collect_activations(source, data).files
    sites = [site for site in find_sites(source.model)[0] if site.name in known]
    if not sites:
        raise LadderError(f"{source.origin}: no layer of it has activations to measure on")
    chosen = [sites[len(sites) * (2 * i + 1) // (2 * LAYERS)] for i in range(LAYERS)]
    names = ", ".join(site.name for site in chosen)
    return Workload(f"{names} of {source.origin}", [_product(s, known[s.name]) for s in chosen])


def _product(site: Site, file: str) -> Product:
    rows = np.load(file)[1:]  # the first row has the largest magnitudes
    return Product(rows.astype(np.float32), site.array())
