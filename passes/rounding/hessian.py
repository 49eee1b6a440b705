"""The Hessian of a weight: that of its product, or of all products and tables that share it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ladder.errors import LadderError
from ladder.ir.facts import Hessians
from ladder.ir.site import Site

# The weight of a look-up next to a product, in means of the diagonal of the product's Hessian.
# Perplexity of SmolLM2 in int3:g128 by gptq (2048 tokens; float 22.9):
# 0.03: 83.9, 0.1: 77.7, 1: 87.0, 10: 113.6.
TABLE_SHARE = 0.1


def hessian_of(users: Sequence[Site], known: Hessians) -> np.ndarray | None:
    """[K, K] for the sites that share a weight; None if no product among them has a Hessian.

    A row of a table is read as it is: its loss is the square of its error, times how often it is
    read. In a product that predicts tokens, the loss of a row is also proportional to how often it
    is predicted (Gauss-Newton). So within a row both count equally, and the identity is added.
    """
    files = dict.fromkeys(known.files[site.name] for site in users if site.name in known.files)
    if not files:
        return None
    total: np.ndarray = np.zeros((users[0].k, users[0].k), np.float32)
    for file in files:
        total += _read(Path(file), users[0])
    if any(site.node.op_type == "Gather" for site in users):
        total[np.diag_indices_from(total)] += TABLE_SHARE * np.diag(total).mean()
    return total


def _read(file: Path, site: Site) -> np.ndarray:
    try:
        found: np.ndarray = np.load(file, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise LadderError(f"site {site.name}: cannot read its Hessian {file}: {error}") from error
    if found.shape != (site.k, site.k):
        shape = " x ".join(map(str, found.shape))
        raise LadderError(
            f"site {site.name}: its Hessian is {shape}, not {site.k} x {site.k}: {file} is stale"
        )
    return found
