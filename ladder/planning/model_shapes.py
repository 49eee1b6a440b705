"""The shapes of a model's products."""

from __future__ import annotations

from pathlib import Path

from ladder.ir.site import find_sites
from ladder.pipeline.prepare import ready
from ladder.timing.product_costs import Shape, shapes_of


def shapes_of_model(model: str | Path, trust_remote_code: bool = False) -> list[Shape]:
    """The shapes of the products after the model is prepared for compilation."""
    source = ready(model, trust=trust_remote_code)
    return shapes_of(find_sites(source.model)[0])
