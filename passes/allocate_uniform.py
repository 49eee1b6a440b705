"""One type for every site, except those that a rule names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.ir.facts import BitPlan, Choice, Skipped
from ladder.ir.site import Site, find_sites
from ladder.passes.infra.base import Facts, Pass
from ladder.passes.infra.choices import put_choices
from ladder.passes.infra.patterns import Rule, check_pattern, matches

UNIFORM = "uniform"  # the reason of a site that no rule names
DEFAULT_TYPE = DType.parse("int4:g128")


@dataclass(frozen=True)
class AllocateUniform(Pass):
    """Plan ``type`` for every site and record which sites are skipped.

    ``keep`` holds patterns (``lm_head|*.down_proj``) of sites that stay float, ``rules`` patterns
    with another type (``lm_head=int8:row|*.down_proj=nf4:g64``; a later one wins). Sites that
    share a weight share its type. Adds the facts BitPlan and Skipped; the graph stays.
    """

    type: DType = DEFAULT_TYPE
    keep: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    gives: ClassVar[Facts] = (BitPlan, Skipped)

    def run(self, model: ir.Model) -> None:
        if self.type.is_float:
            raise LadderError(f"type '{self.type}' is a float: there is nothing to quantize to")
        sites = find_sites(model)[0]
        kept = self._kept(sites)
        planned = {s.name: Choice(self.type, UNIFORM) for s in sites if s.name not in kept}
        for rule in self.rules:
            check_pattern("--rule", rule.pattern, sites)
            for name, reason in _ruled(sites, rule).items():
                if name not in kept:
                    planned[name] = Choice(rule.type, reason)
        floats = {n: c.reason for n, c in planned.items() if c.type.is_float}
        choices = {n: c for n, c in planned.items() if n not in floats}
        put_choices(model, choices, {**kept, **floats})

    def _kept(self, sites: list[Site]) -> dict[str, str]:
        kept = {}
        for pattern in self.keep:
            check_pattern("--keep", pattern, sites)
            kept.update({s.name: "kept by --keep" for s in sites if matches(s, pattern)})
        return kept


def _ruled(sites: list[Site], rule: Rule) -> dict[str, str]:
    """Sites that get a rule's type, with the reason: those it names and those tied to them."""
    why = f"rule {rule}"
    named = {site.name: why for site in sites if matches(site, rule.pattern)}
    weights = {(id(s.weight), s.transposed): s.name for s in sites if s.name in named}
    tied = {
        s.name: f"{why}, tied to {weights[id(s.weight), s.transposed]}"
        for s in sites
        if (id(s.weight), s.transposed) in weights
    }
    return {**tied, **named}
