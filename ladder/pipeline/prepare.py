"""A model with its sites in their final form, as planning and measuring need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ladder.errors import NothingToQuantize
from ladder.frontend.types import Source
from ladder.ir import facts
from ladder.ir.site import find_sites
from ladder.passes.infra.base import Pass
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.phases import PREPARE
from ladder.pipeline.sources import load_source


def ready(
    model: str | Path | Source, prepare: Sequence[Pass] = PREPARE, trust: bool = False
) -> Source:
    """A copy of the model with its sites in their final form."""
    source = load_source(model, trust)
    graph = facts.clone(source.model)
    if not source.is_language_model:
        run_passes(graph, prepare)
    if not find_sites(graph)[0]:
        raise NothingToQuantize(f"{source.origin}: nothing to plan: no weight may change type")
    return replace(source, model=graph)
