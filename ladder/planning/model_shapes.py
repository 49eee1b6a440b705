"""The shapes of a model's products."""

from __future__ import annotations

from pathlib import Path

from ladder.ir.site import find_sites
from ladder.pipeline.prepare import ready
from ladder.timing.product_costs import Shape, shapes_of


def shapes_of_model(model: str | Path) -> list[Shape]:
    """The shapes of the products after the model is prepared for compilation."""
    return shapes_of(find_sites(ready(model).model)[0])
