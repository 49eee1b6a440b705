"""From a wish to the Hessians that its rounding needs."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from ladder.calibrated.hessians import collect
from ladder.frontend.source import Source
from ladder.ir import facts
from ladder.ir.facts import Hessians
from ladder.passes.rounding.methods import CALIBRATED
from ladder.planning.inputs import data_of
from ladder.wish import SiteWish

# A Hessian of fewer tokens than a few times its columns follows the text, not the model.
LEAST_TOKENS = 8192


def calibrate(model: ir.Model, source: Source, wish: SiteWish) -> None:
    """Leave the fact Hessians on ``model``, made of the source's, if the wish's rounding needs it.

    Call it when the sites have their final form.
    """
    found = hessians_of(replace(source, model=model), wish)
    if found is not None:
        facts.put(model, found)


def hessians_of(source: Source, wish: SiteWish) -> Hessians | None:
    """The Hessians of the source's model on windows as wished, ``LEAST_TOKENS`` at least."""
    if wish.rounding not in CALIBRATED:
        return None
    windows = max(wish.windows, -(-LEAST_TOKENS // wish.tokens))
    return collect(source, data_of(source, replace(wish, windows=windows)))
