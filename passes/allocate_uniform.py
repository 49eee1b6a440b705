"""One type for every site."""

from __future__ import annotations

import fnmatch
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

    ``keep`` holds site name patterns (``lm_head|*.down_proj``) that stay float. Leaves the facts
    BitPlan and LeftAlone; the graph does not change.
    """

    type: str = "int4:g128"
    keep: str = ""
    gives: ClassVar[Facts] = (BitPlan, LeftAlone)

    def run(self, model: ir.Model) -> None:
        dtype = DType.parse(self.type)
        if dtype.is_float:
            raise LadderError(f"type '{dtype}' is a float: there is nothing to quantize to")
        sites, refusals = find_sites(model)
        self._check_patterns([site.name for site in sites])
        choice = Choice(str(dtype), "uniform")
        kept = {site.name for site in sites if self._keeps(site.name)}
        facts.put(model, BitPlan({s.name: choice for s in sites if s.name not in kept}))
        reasons = {r.name: f"{r.op}: {r.reason}" for r in refusals}
        facts.put(model, LeftAlone({**reasons, **dict.fromkeys(sorted(kept), "kept by --keep")}))

    @property
    def patterns(self) -> list[str]:
        return [pattern for pattern in self.keep.split("|") if pattern]

    def _check_patterns(self, names: list[str]) -> None:
        for pattern in self.patterns:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                raise LadderError(
                    f"--keep '{pattern}' matches no site; "
                    f"the first sites are: {', '.join(names[:5]) or 'none'}"
                )

    def _keeps(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)
