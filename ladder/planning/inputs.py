"""What a plan is made from: the model is fed windows of text, or samples of its inputs."""

from __future__ import annotations

from dataclasses import replace

from ladder.calibration.requested_data import data_of, long_data_of
from ladder.frontend.types import Source
from ladder.ir.facts import Hessians, Sensitivity
from ladder.options.requests import PlanWish
from ladder.passes.allocation.parts import candidates
from ladder.sensitivity.measure import How, measure_data
from ladder.sensitivity.scaled import level_type, scaled


def sensitivity_of(source: Source, wish: PlanWish, hessians: Hessians | None = None) -> Sensitivity:
    """Every site in every type; what a state file or the cache has is not measured again."""
    how, types = How(wish.workers, state=wish.state), candidates(wish.types)
    found = measure_data(source, types, data_of(source, wish), wish.rounding, how, hessians)
    if not wish.long_tokens:
        return found
    type = level_type(types)
    beside = wish.state and wish.state.with_name(f"{wish.state.name}.{wish.long_tokens}")
    how, long = replace(how, state=beside), long_data_of(source, wish)
    longer = measure_data(source, [type], long, wish.rounding, how, hessians)
    return scaled(found, longer, type)
