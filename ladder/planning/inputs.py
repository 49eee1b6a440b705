"""The sensitivities that a plan is made from, measured on text or on samples of the inputs."""

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
    """Measure every site in every type, except for scores in the state file or the cache."""
    how, types = MeasureOptions(options.workers, state=options.state), candidates(options.types)
    found = measure_data(source, types, data_of(source, options), options.rounding, how, hessians)
    if not options.long_tokens:
        return found
    type = level_type(types)
    state = options.state and options.state.with_name(f"{options.state.name}.{options.long_tokens}")
    how, long = replace(how, state=state), long_data_of(source, options)
    longer = measure_data(source, [type], long, options.rounding, how, hessians)
    return scaled(found, longer, type)
