"""From a wish to the Hessians that its rounding needs."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from ladder.calibration.data import Data
from ladder.calibration.gptaq import round_in_order
from ladder.calibration.hessians import collect
from ladder.calibration.learned.result import check_learnable, learned_of
from ladder.calibration.requested_data import data_of
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.facts import BitPlan, Finished, Hessians
from ladder.options.requests import SiteWish
from ladder.passes.rounding.methods import CALIBRATED, LEARNED, WHOLE

# A Hessian of fewer tokens than a few times its columns follows the text, not the model.
LEAST_TOKENS = 8192
BEGIN_TOKENS = 32768  # what learning begins with is rounded on
LEARN_TOKENS = 1 << 18  # and how many it is shown, each as often as there are epochs


def calibrate(model: ir.Model, source: Source, wish: SiteWish) -> None:
    """Leave on ``model``, which has its plan, the facts that the wish's rounding needs.

    Call it when the sites have their final form.
    """
    here = replace(source, model=model)
    plan = facts.get(model, BitPlan) or BitPlan()
    types = {name: str(choice.type) for name, choice in plan.choices.items()}
    if wish.rounding == LEARNED:
        check_learnable(here, types)
    found = hessians_of(here, wish)
    if found is not None:
        facts.put(model, found)
    if found is not None and wish.rounding in WHOLE:
        facts.put(model, finished_of(here, wish, types, found))


def hessians_of(source: Source, wish: SiteWish) -> Hessians | None:
    """The Hessians of the source's model on windows as wished, ``LEAST_TOKENS`` at least."""
    if wish.rounding not in CALIBRATED:
        return None
    if wish.rounding == LEARNED:
        return collect(source, _exactly(source, wish, BEGIN_TOKENS))
    return collect(source, _at_least(source, wish, LEAST_TOKENS))


def finished_of(
    source: Source, wish: SiteWish, types: dict[str, str], hessians: Hessians
) -> Finished:
    """The weights of a plan (site -> type) rounded in the model's order, and then learned if so
    wished; on the same windows, or more of them."""
    if wish.rounding != LEARNED:
        data = _at_least(source, wish, LEAST_TOKENS)
        return round_in_order(source, data, types, hessians)
    begun = round_in_order(source, _exactly(source, wish, BEGIN_TOKENS), types, hessians)
    return learned_of(source, _at_least(source, wish, LEARN_TOKENS), types, begun)


def _at_least(source: Source, wish: SiteWish, tokens: int) -> Data:
    windows = max(wish.windows, -(-tokens // wish.tokens))
    return data_of(source, replace(wish, windows=windows))


def _exactly(source: Source, wish: SiteWish, tokens: int) -> Data:
    return data_of(source, replace(wish, windows=-(-tokens // wish.tokens)))
