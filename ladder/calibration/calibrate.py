"""Make the facts that the rounding method of the options needs: Hessians, pre-rounded weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from ladder.calibration.data import Data
from ladder.calibration.hessians import collect
from ladder.calibration.requested_data import data_of
from ladder.calibration.rounded_weights import RoundedWeights
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Hessians, PreRounded
from ladder.options.sites import NO_REMEDY, SiteOptions
from ladder.passes.rounding.methods import find_method
from ladder.support.lookup import named


def calibrate(model: ir.Model, source: Source, options: SiteOptions) -> None:
    """Attach to ``model``, which has its plan, the facts that the rounding method needs.

    The sites must have their final form.
    """
    here, method = replace(source, model=model), find_method(options.rounding)
    plan = facts.get(model, BitPlan) or BitPlan()
    types = {name: choice.type for name, choice in plan.choices.items()}
    if method.whole and method.whole.check:
        named(method.whole.check)(here, types)
    found = hessians_of(here, options)
    if found is not None:
        facts.put(model, found)
    if found is not None and method.needs.model:
        facts.put(model, pre_rounded_of(here, options, types, found))
    elif found is not None and options.outliers == NO_REMEDY:  # else weights may have changed
        kept = RoundedWeights(here, options.rounding, found).files(types)
        facts.put(model, PreRounded(kept))


def hessians_of(source: Source, options: SiteOptions) -> Hessians | None:
    """The Hessians of the source's model, if the method needs them."""
    if not find_method(options.rounding).needs.hessians:
        return None
    return collect(source, _first_data(source, options))


def pre_rounded_of(
    source: Source, options: SiteOptions, types: Mapping[str, DType], hessians: Hessians
) -> PreRounded:
    """The weights of a plan (site -> type), rounded by a method that needs the whole model."""
    method = find_method(options.rounding)
    begun: Hessians | PreRounded = hessians
    if method.start is not None:
        begun = _made(method.start.method, source, _first_data(source, options), types, hessians)
    return _made(options.rounding, source, _at_least(source, options, method.tokens), types, begun)


def _made(
    name: str, source: Source, data: Data, types: Mapping[str, DType], begun: Hessians | PreRounded
) -> PreRounded:
    whole = find_method(name).whole
    assert whole is not None
    made: PreRounded = named(whole.make)(source, data, types, begun)
    return made


def _first_data(source: Source, options: SiteOptions) -> Data:
    """The data for the Hessians, and for the method that ``learned`` starts from."""
    method = find_method(options.rounding)
    if method.start is None:
        return _at_least(source, options, method.tokens)
    return data_of(source, replace(options, windows=-(-method.start.tokens // options.tokens)))


def _at_least(source: Source, options: SiteOptions, tokens: int) -> Data:
    windows = max(options.windows, -(-tokens // options.tokens))
    return data_of(source, replace(options, windows=windows))
