"""``ladder opt``: run any passes over any model and write the IR between them as text."""

from __future__ import annotations

from pathlib import Path

from ladder.export.save import write_model
from ladder.ir.dump import dump_text
from ladder.passes.infra.registry import parse_pipeline
from ladder.passes.infra.runner import DumpObserver, Observer, TimingObserver, run_passes
from ladder.pipeline.sources import load_source


def run_opt(
    path: Path, pipeline: str, dump: Path | None, output: Path | None, trust: bool = False
) -> tuple[list[tuple[str, float]], str]:
    """Run ``pipeline``; return (pass, seconds) rows and the resulting IR as text."""
    passes = parse_pipeline(pipeline)
    model = load_source(path, trust).model
    timing = TimingObserver()
    observers: list[Observer] = [timing]
    if dump is not None:
        observers.append(DumpObserver(dump))
    run_passes(model, passes, observers)
    if output is not None:
        write_model(model, output)
    return timing.rows, dump_text(model)
