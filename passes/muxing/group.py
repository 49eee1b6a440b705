"""Groups: sites that read one value. It is quantized once, so they share one remedy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan
from ladder.ir.numerics import F32
from ladder.ir.outliers import Activations
from ladder.ir.site import Site, find_sites


@dataclass
class Group:
    """Sites with their types, in order, and the value that they read.

    ``largest`` [K] are the magnitudes of its channels over the calibration tokens, ``x`` [R, K] are
    some of the tokens. ``refused`` says why no remedy applies, whatever the options are.
    """

    value: ir.Value
    largest: F32
    x: F32
    sites: list[Site] = field(default_factory=list)
    types: list[DType] = field(default_factory=list)
    refused: str = ""

    @property
    def k(self) -> int:
        return len(self.largest)


def groups_of(
    model: ir.Model, plan: BitPlan, known: Activations
) -> tuple[list[Group], dict[str, str]]:
    """The groups in the order of the graph, and why some sites of the plan are in none."""
    found: dict[tuple[object, ...], Group] = {}
    alone: dict[str, str] = {}
    for site in find_sites(model)[0]:
        value = site.node.inputs[0]
        if site.name not in plan.choices:
            continue
        if site.name not in known.files or value is None:
            alone[site.name] = known.missing.get(site.name, "no calibration data for its input")
            continue
        key = (id(value), site.window)
        if key not in found:
            found[key] = _group(site, value, known.files[site.name])
        found[key].sites.append(site)
        found[key].types.append(plan.choices[site.name].type)
    return list(found.values()), alone


def _group(site: Site, value: ir.Value, file: str) -> Group:
    try:
        array = np.load(Path(file))
    except (OSError, ValueError) as error:
        raise LadderError(f"site {site.name}: cannot read {file}: {error}") from error
    if array.ndim != 2 or array.shape[1] != site.k:
        raise LadderError(f"site {site.name}: {file} does not have {site.k} channels: it is stale")
    refused = "" if site.window is None else "a convolution: no kernel muxes its windows"
    return Group(value, array[0], array[1:], refused=refused)
