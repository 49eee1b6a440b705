"""One type for every site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Choice, LeftAlone
from ladder.ir.site import find_sites
from ladder.passes.base import Facts, Pass


@dataclass(frozen=True)
class AllocateUniform(Pass):
    """Plan ``type`` for every site and note what is left alone.

    Leaves the facts BitPlan and LeftAlone; the graph does not change.
    """

    type: str = "int4:g128"
    gives: ClassVar[Facts] = (BitPlan, LeftAlone)

    def run(self, model: ir.Model) -> None:
        dtype = DType.parse(self.type)
        if dtype.is_float:
            raise LadderError(f"type '{dtype}' is a float: there is nothing to quantize to")
        sites, refusals = find_sites(model)
        choice = Choice(str(dtype), "uniform")
        facts.put(model, BitPlan({site.name: choice for site in sites}))
        facts.put(model, LeftAlone({r.name: f"{r.op}: {r.reason}" for r in refusals}))
