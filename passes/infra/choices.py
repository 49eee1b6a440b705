"""The one way in which the types of a model's sites are written into it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from ladder.ir import facts
from ladder.ir.facts import BitPlan, Choice, Skipped
from ladder.ir.site import find_sites


def put_choices(
    model: ir.Model, choices: Mapping[str, Choice], kept: Mapping[str, str] | None = None
) -> None:
    """Add the facts BitPlan and Skipped: the type of each site, and why others stay float.

    ``kept`` is site -> reason for sites that could have had a type; nodes that cannot have one are
    found here.
    """
    refused = {r.name: f"{r.op}: {r.reason}" for r in find_sites(model)[1]}
    facts.put(model, BitPlan(dict(choices)))
    facts.put(model, Skipped({**refused, **dict(sorted((kept or {}).items()))}))
