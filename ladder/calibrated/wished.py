"""From a wish to the Hessians that its rounding needs."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from ladder.calibrated.hessians import collect
from ladder.calibrated.ordered import round_in_order
from ladder.frontend.source import Source
from ladder.ir import facts
from ladder.ir.facts import BitPlan, Finished, Hessians
from ladder.passes.rounding.methods import CALIBRATED, GPTAQ
from ladder.planning.inputs import data_of
from ladder.sensitivity.data import Data
from ladder.wish import SiteWish

# A Hessian of fewer tokens than a few times its columns follows the text, not the model.
LEAST_TOKENS = 8192


def calibrate(model: ir.Model, source: Source, wish: SiteWish) -> None:
    """Leave on ``model``, which has its plan, the facts that the wish's rounding needs.

    Call it when the sites have their final form.
    """
    here = replace(source, model=model)
    found = hessians_of(here, wish)
    if found is not None:
        facts.put(model, found)
    if found is not None and wish.rounding == GPTAQ:
        plan = facts.get(model, BitPlan) or BitPlan()
        types = {name: choice.type for name, choice in plan.choices.items()}
        facts.put(model, finished_of(here, wish, types, found))


def hessians_of(source: Source, wish: SiteWish) -> Hessians | None:
    """The Hessians of the source's model on windows as wished, ``LEAST_TOKENS`` at least."""
    if wish.rounding not in CALIBRATED:
        return None
    return collect(source, _data(source, wish))


def finished_of(
    source: Source, wish: SiteWish, types: dict[str, str], hessians: Hessians
) -> Finished:
    """The weights of a plan (site -> type) rounded in the model's order, on the same windows."""
    return round_in_order(source, _data(source, wish), types, hessians)


def _data(source: Source, wish: SiteWish) -> Data:
    windows = max(wish.windows, -(-LEAST_TOKENS // wish.tokens))
    return data_of(source, replace(wish, windows=windows))
