"""Which method rounds the weights where the options leave it open."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from ladder.frontend.types import Source
from ladder.options.effort import EFFORTS, NORMAL
from ladder.options.requests import AUTO, CompileOptions, PlanOptions, QuantizeOptions
from ladder.passes.rounding.methods import UNCALIBRATED, check_method
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
    return EFFORTS[options.effort].rounding if calibrated else UNCALIBRATED
