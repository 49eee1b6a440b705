"""Which method rounds the weights where the options leave it open."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from ladder.frontend.types import Source
from ladder.options.effort import NORMAL
from ladder.options.requests import CompileOptions, PlanOptions, QuantizeOptions
from ladder.options.sites import AUTO
from ladder.passes.rounding.methods import BY_EFFORT, UNCALIBRATED, check_method
from ladder.pipeline.plan_file import Plan

O = TypeVar("O", CompileOptions, QuantizeOptions, PlanOptions)  # noqa: E741


def with_rounding(options: O, source: Source, planned: Plan | None = None) -> O:
    """The options with a rounding method.

    Plans of language models are rounded as the effort says, and their artifacts like the plan.
    """
    if options.rounding != AUTO:
        return options
    return replace(options, rounding=_chosen(options, source, planned), chosen=("rounding",))


def _chosen(options: O, source: Source, planned: Plan | None) -> str:
    said = str(planned.asked.get("rounding", "")) if planned is not None else ""
    if said:
        check_method(said)
        return said
    searched = isinstance(options, PlanOptions) or options.effort != NORMAL
    calibrated = source.is_language_model and searched
    return BY_EFFORT[options.effort] if calibrated else UNCALIBRATED
