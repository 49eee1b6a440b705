"""What a plan is made from: the model is fed windows of text, or samples of its inputs."""

from __future__ import annotations

from dataclasses import replace

from ladder.calibration.requested_data import data_of, long_data_of
from ladder.frontend.types import Source
from ladder.ir.facts import Hessians, Sensitivity
from ladder.options.requests import PlanOptions
from ladder.passes.allocation.parts import candidates
from ladder.sensitivity.measure import MeasureOptions, measure_data
from ladder.sensitivity.scaled import level_type, scaled


def sensitivity_of(
    source: Source, options: PlanOptions, hessians: Hessians | None = None
) -> Sensitivity:
    """Every site in every type; what a state file or the cache has is not measured again."""
    how, types = MeasureOptions(options.workers, state=options.state), candidates(options.types)
    found = measure_data(source, types, data_of(source, options), options.rounding, how, hessians)
    if not options.long_tokens:
        return found
    type = level_type(types)
    beside = options.state and options.state.with_name(
        f"{options.state.name}.{options.long_tokens}"
    )
    how, long = replace(how, state=beside), long_data_of(source, options)
    longer = measure_data(source, [type], long, options.rounding, how, hessians)
    return scaled(found, longer, type)
