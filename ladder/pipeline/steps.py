"""What compilations of every kind do alike: types, outliers, calibration."""

from __future__ import annotations

import onnx_ir as ir

from ladder.calibration.calibrate import calibrate
from ladder.calibration.outliers import mux_outliers
from ladder.frontend.types import Source
from ladder.options.requests import CompileOptions, QuantizeOptions
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.phases import allocate
from ladder.pipeline.plan_file import Plan, put_plan


def put_types(
    model: ir.Model, source: Source, options: CompileOptions | QuantizeOptions, planned: Plan | None
) -> None:
    """Give every site its type: by the plan if there is one, else by the options."""
    if planned is not None:
        put_plan(model, planned, source.digest)
    else:
        run_passes(model, allocate(options))


def calibrated(model: ir.Model, source: Source, options: CompileOptions | QuantizeOptions) -> None:
    """Take care of outliers, and leave on ``model`` the facts that its rounding needs."""
    calibrate(model, mux_outliers(model, source, options), options)
