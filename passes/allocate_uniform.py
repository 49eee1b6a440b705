"""One type for every site, but for those that a rule names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Choice, LeftAlone
from ladder.ir.site import Site, find_sites
from ladder.passes.infra.base import Facts, Pass
from ladder.passes.infra.patterns import check_pattern, matches, parse_rules


@dataclass(frozen=True)
class AllocateUniform(Pass):
    """Plan ``type`` for every site and note what is left alone.

    ``keep`` holds patterns (``lm_head|*.down_proj``) of sites that stay float, ``rules`` patterns
    with another type (``lm_head=int8:row|*.down_proj=nf4:g64``; a later one wins). Sites that
    share a weight share its type. Leaves the facts BitPlan and LeftAlone; the graph stays.
    """

    type: str = "int4:g128"
    keep: str = ""
    rules: str = ""
    gives: ClassVar[Facts] = (BitPlan, LeftAlone)

    def run(self, model: ir.Model) -> None:
        dtype = DType.parse(self.type)
        if dtype.is_float:
            raise LadderError(f"type '{dtype}' is a float: there is nothing to quantize to")
        sites, refusals = find_sites(model)
        kept = self._kept(sites)
        planned = {s.name: Choice(str(dtype), "uniform") for s in sites if s.name not in kept}
        for pattern, other in parse_rules(self.rules):
            check_pattern("--rule", pattern, sites)
            for name, reason in _ruled(sites, pattern, other).items():
                if name not in kept:
                    planned[name] = Choice(str(other), reason)
        floats = {n: c.reason for n, c in planned.items() if DType.parse(c.type).is_float}
        facts.put(model, BitPlan({n: c for n, c in planned.items() if n not in floats}))
        reasons = {r.name: f"{r.op}: {r.reason}" for r in refusals}
        facts.put(model, LeftAlone({**reasons, **dict(sorted({**kept, **floats}.items()))}))

    def _kept(self, sites: list[Site]) -> dict[str, str]:
        kept = {}
        for pattern in filter(None, self.keep.split("|")):
            check_pattern("--keep", pattern, sites)
            kept.update({s.name: "kept by --keep" for s in sites if matches(s, pattern)})
        return kept


def _ruled(sites: list[Site], pattern: str, dtype: DType) -> dict[str, str]:
    """Names of the sites that a rule reaches, with the reason: those it names and their twins."""
    rule = f"rule {pattern}={dtype}"
    named = {site.name: rule for site in sites if matches(site, pattern)}
    weights = {(id(s.weight), s.transposed): s.name for s in sites if s.name in named}
    tied = {
        s.name: f"{rule}, tied to {weights[id(s.weight), s.transposed]}"
        for s in sites
        if (id(s.weight), s.transposed) in weights
    }
    return {**tied, **named}
