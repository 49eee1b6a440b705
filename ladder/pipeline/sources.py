"""Loads models for the compiler; traces are kept in the cache."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir

from ladder.frontend.gguf.parts import parts_of
from ladder.frontend.load import Frontend, find_frontend
from ladder.frontend.types import Source
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.phases import PREPARE
from ladder.pipeline.stored_codes import attach_codes, write_codes
from ladder.pipeline.trace_check import check_trace
from ladder.support import cache, entries
from ladder.support.progress import stage

SOURCE = "source.json"  # of a trace: everything but the model


def load_source(model: str | Path | Source, trust: bool = False) -> Source:
    """Load a model. A language model is traced once, then read from the cache.

    ``trust`` allows to run Python code of the model's folder.
    """
    if isinstance(model, Source):
        return model
    frontend, path = find_frontend(Path(model))
    return _traced(frontend, path, trust) if frontend.traced else frontend.read(path, trust)


def _traced(frontend: Frontend, path: Path, trust: bool) -> Source:
    stamp = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in _files(path))
    place = cache.entry("traces", path.resolve(), stamp, trust, version("onnx-ir"))
    if entries.whole(place, SOURCE):
        return read_trace(place)
    with stage("trace the model"):
        source = frontend.read(path, trust)
    run_passes(source.model, PREPARE)
    with entries.new_entry(place) as aside:
        ir.save(source.model, aside / "model.onnx", external_data="model.data")
        with stage("compare the trace with torch"):
            check_trace(source, aside / "model.onnx")
        write_codes(source, aside)
        (aside / SOURCE).write_text(json.dumps(source.to_json()))
    return read_trace(place)


def read_trace(place: Path) -> Source:
    """Read a trace from the cache."""
    rest = json.loads((place / SOURCE).read_text())
    source = Source.from_json(ir.load(place / "model.onnx"), rest)
    attach_codes(source, place)
    return source


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [part for part in parts_of(path) if part.is_file()]
    return [f for f in path.iterdir() if f.is_file()]


def known_model(digest: str) -> Path | None:
    """The traced float model with this digest, if it is in the cache."""
    for place in sorted((cache.cache_folder() / "traces").glob("*")):
        if entries.has(place, SOURCE) and _digest(place) == digest and entries.whole(place, SOURCE):
            return place
    return None


def _digest(place: Path) -> str:
    """The digest of the model that a trace is of."""
    return str(json.loads((place / SOURCE).read_text())["digest"])
