"""Steps that all kinds of compilation share: types, outliers, calibration."""

from __future__ import annotations

import onnx_ir as ir

from ladder.calibration.calibrate import calibrate
from ladder.calibration.outliers import mux_outliers
from ladder.calibration.ranges import put_ranges
from ladder.frontend.types import Source
from ladder.ir.activation import is_static
from ladder.options.requests import CompileOptions, QuantizeOptions
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.phases import allocate, split_experts
from ladder.pipeline.plan_file import Plan, put_plan


def put_types(
    model: ir.Model, source: Source, options: CompileOptions | QuantizeOptions, planned: Plan | None
) -> None:
    """Give every site its type, from the plan if there is one, else from the options.

    Experts that a plan, a rule or ``keep`` names one by one become sites before.
    """
    named = (*options.keep, *(rule.pattern for rule in options.rules))
    run_passes(model, split_experts(tuple(planned.sites) if planned else named))
    if planned is not None:
        put_plan(model, planned, source.digest)
    else:
        run_passes(model, allocate(options))


def calibrated(model: ir.Model, source: Source, options: CompileOptions | QuantizeOptions) -> None:
    """Handle outliers, and attach to ``model`` the facts that its rounding needs."""
    here = mux_outliers(model, source, options)
    calibrate(model, here, options)
    if isinstance(options, QuantizeOptions) and is_static(options.activation):
        put_ranges(model, here, options)
