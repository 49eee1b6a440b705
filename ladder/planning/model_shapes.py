"""The shapes of the products of a model."""

from __future__ import annotations

from pathlib import Path

from ladder.ir.site import find_sites
from ladder.pipeline.prepare import ready
from ladder.timing.product_costs import Shape, shapes_of


def shapes_of_model(model: str | Path) -> list[Shape]:
    """Those of a model as it is compiled."""
    return shapes_of(find_sites(ready(model).model)[0])
