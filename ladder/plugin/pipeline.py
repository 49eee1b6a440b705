"""``relax_pipeline="ladder"``: our steps, then TVM's own for everything else."""

from __future__ import annotations

import logging
from typing import Any

import tvm
from tvm import relax

from ladder.codegen.pipeline import ladder_passes
from ladder.plugin import options
from ladder.plugin.levels import NOT_LOWERED, level_of
from ladder.plugin.transform import (
    FuseOperators,
    LiftWeights,
    LowerOperators,
    LowerTypes,
    RoundWeights,
)

LOG = logging.getLogger("ladder.plugin")


def ladder_pipeline(**given: str) -> Any:
    """The pipeline as one pass. ``given`` overrides the module's attributes."""
    options.check_names(given)

    @tvm.transform.module_pass(opt_level=0, name="ladder.Pipeline")  # type: ignore[untyped-decorator]
    def run(mod: Any, _context: Any) -> Any:
        target = tvm.target.Target.current(allow_none=True)
        if level_of(target) is None:
            LOG.warning(NOT_LOWERED, target.tag or target.kind.name)
            return relax.get_default_pipeline(target)(mod)
        return tvm.transform.Sequential(passes(target, given))(mod)

    return run


def passes(target: Any, given: dict[str, str]) -> list[Any]:
    """The steps in order. Float operators are compiled as in Ladder's own compilations."""
    dispatch = relax.pipeline.library_dispatch_passes(target) if target is not None else []
    return [
        RoundWeights(**given),
        FuseOperators(),
        LowerTypes(**given),
        LowerOperators(),
        LiftWeights(),
        *dispatch,
        *ladder_passes(),
    ]
