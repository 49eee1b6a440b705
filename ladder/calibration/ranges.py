"""The ranges of activations for static codes, seen on calibration data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from ladder.calibration.data import Data
from ladder.calibration.requested_data import data_of
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.facts import ActivationRanges, BitPlan
from ladder.ir.numerics import F32
from ladder.ir.site import find_sites
from ladder.options.sites import SiteOptions
from ladder.reference import Reference
from ladder.support.progress import track

CODES = 256
KEPT = 4096  # values of each activation that are kept of a sample
PARTS = np.linspace(1.0, 0.5, 26)  # of the whole range: those that are tried
# Results that integer operators of ONNX Runtime write; a convolution's ends in one of them.
RESULTS = frozenset({"Conv", "Add", "Relu", "Clip", "MaxPool"})


def put_ranges(model: ir.Model, source: Source, options: SiteOptions) -> None:
    """Attach the fact ActivationRanges to ``model``, which has its plan."""
    names = wanted(model)
    seen = _seen(model, data := data_of(source, options), names)
    ranges = {name: least_error(seen[name]) for name in names if seen[name].size}
    facts.put(model, ActivationRanges(ranges, data.name, len(data.feeds)))


def wanted(model: ir.Model) -> list[str]:
    """The float values of the main graph that static codes may stand for."""
    plan = facts.need(model, BitPlan)
    values = [
        site.node.inputs[0]
        for site in find_sites(model)[0]
        if site.name in plan.choices and site.node.op_type != "Gather"
    ]
    values += [out for node in model.graph if node.op_type in RESULTS for out in node.outputs]
    values += [v for node in model.graph if node.op_type == "Add" for v in node.inputs]
    inside = {id(v) for node in model.graph for v in node.outputs} | {
        id(v) for v in model.graph.inputs
    }
    found = dict.fromkeys(v for v in values if v is not None and id(v) in inside)
    return [v.name or "" for v in found if v.dtype is None or v.dtype.is_floating_point()]


def _seen(model: ir.Model, data: Data, names: list[str]) -> dict[str, F32]:
    """Some values of each activation over the samples, with the least and the largest."""
    copy = model.clone()
    known = {v.name: v for node in copy.graph for v in node.outputs}
    shown = {v.name for v in copy.graph.outputs}
    given = {v.name for v in copy.graph.inputs}
    copy.graph.outputs.extend(known[n] for n in names if n in known and n not in shown)
    reference = Reference(copy)
    kept: dict[str, list[F32]] = {name: [np.zeros(0, np.float32)] for name in names}
    for feeds in track(data.feeds, "find the ranges of activations"):
        made = {**{n: a for n, a in feeds.items() if n in given}}
        made |= reference.run({k: v for k, v in feeds.items() if k in reference.inputs})
        for name in names:
            kept[name].append(_some(made[name], name))
    return {name: np.concatenate(parts) for name, parts in kept.items()}


def _some(array: np.ndarray, name: str) -> F32:
    flat = np.asarray(array).astype(np.float32).ravel()
    if not flat.size:
        return flat
    if not np.isfinite(flat).all():
        raise LadderError(
            f"value '{name}' contains NaN or infinity on the calibration data; "
            "check the data and the model's weights"
        )
    few: F32 = flat[np.linspace(0, flat.size - 1, min(KEPT, flat.size)).astype(np.int64)]
    return np.concatenate([few, np.array([flat.min(), flat.max()], np.float32)])


def least_error(values: F32) -> tuple[float, float]:
    """The part of the values' range, with 0 in it, whose 256 codes have the least squared error."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if low == high:
        return low, high
    return min(_ranges(low, high), key=lambda ends: _error(values, *ends))


def _ranges(low: float, high: float) -> Iterator[tuple[float, float]]:
    for part in PARTS:
        yield low * float(part), high * float(part)


def _error(values: F32, low: float, high: float) -> float:
    scale = np.float32((high - low) / (CODES - 1))
    clipped = np.clip(values, low, high)
    rounded = np.rint(clipped / scale) * scale
    return float(np.square(rounded - values).sum())
