"""Handle outlier channels of products as the options ask."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import onnx_ir as ir

from ladder.calibration.activations import collect_activations
from ladder.calibration.requested_data import data_of
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Skipped
from ladder.ir.outliers import Activations, Outliers
from ladder.options.requests import PlanOptions
from ladder.options.sites import SiteOptions
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.allocation.parts import candidates
from ladder.passes.infra.runner import run_passes
from ladder.passes.mux_outliers import MuxOutliers
from ladder.passes.muxing.remedies import SMOOTH

# The magnitudes of fewer tokens are a poor estimate of the largest ones.
LEAST_TOKENS = 2048


def observe(source: Source, options: SiteOptions) -> Activations:
    """Statistics of the inputs of the products, on at least ``LEAST_TOKENS`` tokens."""
    windows = max(options.windows, -(-LEAST_TOKENS // options.tokens))
    return collect_activations(source, data_of(source, replace(options, windows=windows)))


def provisionally_muxed(source: Source, options: PlanOptions) -> Source:
    """The source with outliers handled before types are chosen, as if all sites had the last type.

    Sensitivities are then those of the folded weights, and costs include muxed products. When the
    plan is applied, outlier methods are chosen again, for the types of the plan.
    """
    if not options.observed:
        return source
    run_passes(source.model, [AllocateUniform(DType.parse(candidates(options.types)[-1]))])
    found = mux_outliers(source.model, source, options)
    for fact in (BitPlan, Skipped):
        facts.drop(source.model, fact)
    return found


def mux_outliers(model: ir.Model, source: Source, options: SiteOptions) -> Source:
    """Run the pass mux-outliers on ``model``, whose types are planned, if the options ask for it.

    Return the source for later calibration: folding changes the activations.
    """
    if not options.observed:
        return source
    facts.put(model, observe(replace(source, model=model), options))
    run_passes(model, [MuxOutliers(options.outliers, options.mode)])
    outliers = facts.get(model, Outliers) or Outliers()
    folded = sorted(name for name, choice in outliers.choices.items() if choice.method == SMOOTH)
    if not folded:
        return source
    digest = hashlib.sha256(
        "\n".join([source.digest, str(outliers.calibrated), *folded]).encode()
    ).hexdigest()
    return replace(source, digest=f"{digest[:32]}-smooth")
