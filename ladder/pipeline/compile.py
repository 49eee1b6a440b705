"""Compile a model into an artifact: run the phases in order, or copy the result from the cache."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ladder.errors import LadderError, NothingToQuantize
from ladder.frontend.types import Source
from ladder.hardware.targets import Level, levels_of
from ladder.ir import facts
from ladder.ir.element import user_elements
from ladder.ir.site import find_sites
from ladder.options.requests import CompileOptions
from ladder.options.schema import plain_options, refuse_inapplicable, result_key
from ladder.passes.infra.choices import put_choices
from ladder.passes.infra.runner import run_passes
from ladder.passes.store_states import stored_states
from ladder.pipeline.artifact_writer import write_artifact
from ladder.pipeline.functions import functions_of
from ladder.pipeline.phases import PREPARE, lower, round_and_stack, store
from ladder.pipeline.plan_file import Plan, read_plan
from ladder.pipeline.report import CompileReport, compile_report, kernel_rows
from ladder.pipeline.rounding_choice import with_rounding
from ladder.pipeline.sources import load_source
from ladder.pipeline.state_rows import reasons_to_keep, state_notes, state_rows
from ladder.pipeline.steps import calibrated, put_types
from ladder.pipeline.windows import find_windows
from ladder.runtime.artifact import MANIFEST, file_hash, own_files
from ladder.runtime.manifest import manifest_text
from ladder.support import cache, entries
from ladder.support.files import check_folder, folder_aside
from ladder.support.progress import stage
from ladder.timing.cost_tables import machine_of

IN_A_BRANCH = "it is in a branch or a loop, which has no low-bit kernels"


@dataclass
class Compiled:
    """The result of a compilation."""

    folder: Path
    report: CompileReport


def compile_model(
    model: str | Path | Source,
    output: str | Path,
    options: CompileOptions | None = None,
    planned: Plan | None = None,
    notes: Sequence[str] = (),
) -> Compiled:
    """Compile ``model`` into an artifact folder. Work that was done before comes from the cache.

    The type of every site comes from ``planned``, or from the file that ``options.plan`` names.
    ``notes`` are about this request, for its report.
    """
    options, start = options or CompileOptions(), time.perf_counter()
    options.check()
    check_folder(Path(output), own_files)
    levels = levels_of(options.target)
    if options.plan:
        planned = read_plan(options.plan)
    source = load_source(model, options.trust_remote_code)
    refuse_inapplicable(options, source.is_language_model, source.origin)
    _check_context(source, options)
    options = with_rounding(options, source, planned)
    place = _entry(source, options, levels, planned)
    if not entries.whole(place, MANIFEST):
        _compile_into(place, source, options, levels, planned)
    target = Path(output)
    with folder_aside(target, own_files) as aside:
        entries.copy(place, aside)
        report = _complete(aside / MANIFEST, source, options, planned, start, notes)
    return Compiled(target, report)


def _check_context(source: Source, options: CompileOptions) -> None:
    if source.longest is not None and options.context > source.longest:
        raise LadderError(
            f"{source.origin}: its positions are scaled differently in texts of more than "
            f"{source.longest} tokens, which is not supported; "
            f"give --context {source.longest} or less"
        )


def _entry(
    source: Source, options: CompileOptions, levels: tuple[Level, ...], planned: Plan | None
) -> Path:
    """An artifact's folder in the cache. The key is the model's digest and its sites' types."""
    return cache.entry(
        "artifacts",
        source.digest,
        result_key(options),
        file_hash(options.calib) if options.calib else "",
        sorted(planned.sites.items()) if planned else "",
        _own_types(options, planned),
        [machine_of(level.name) for level in levels],
        version("apache-tvm"),
    )


def _complete(
    path: Path, source: Source, options: CompileOptions, planned: Plan | None, start: float,
    notes: Sequence[str],
) -> CompileReport:  # fmt: skip
    """Add to a manifest from the cache what is not in its key; return the report.

    Two plans with the same types share an entry, and so do copies of a model under other names.
    """
    manifest = json.loads(path.read_text())
    manifest["origin"]["path"] = source.origin
    manifest["options"] = plain_options(options)
    report = CompileReport(**manifest["report"])
    report = report.of(source, options, planned, time.perf_counter() - start)
    report.notes = [*notes, *report.notes]
    files = sum(file.stat().st_size for file in path.parent.iterdir() if file != path)
    size = -1
    while report.size_bytes != size:  # the manifest holds the size of its folder
        report.size_bytes = max(size, 0)
        manifest["report"] = report.to_json()
        text = manifest_text(manifest)
        size = files + len(text.encode())
    path.write_text(text)
    return report


def _compile_into(
    place: Path,
    source: Source,
    options: CompileOptions,
    levels: tuple[Level, ...],
    planned: Plan | None,
) -> None:
    _need_compiler()
    from ladder.codegen.packing import Weights

    shared = facts.clone(source.model)
    if not source.is_language_model:  # a trace is prepared before it is cached
        run_passes(shared, PREPARE)
    put_types(shared, source, options, planned)
    _keep_branches(shared)
    _check_sites(shared, source)
    check = _float_check(shared, source, options)
    sites = find_sites(shared)[0]
    calibrated(shared, source, options)
    run_passes(shared, round_and_stack(options))
    states: list[dict[str, Any]] = []
    if source.is_language_model:
        source, states = _with_states_stored(shared, source, options)
    weights = Weights()
    with entries.new_entry(place) as aside:
        functions: list[dict[str, Any]] = []
        kernels: list[dict[str, Any]] = []
        for level in levels:
            functions, rows = _build_level(shared, source, options, level, weights, aside)
            kernels += rows
        report = compile_report(shared, sites, source, weights.size_bytes, kernels)
        report.check, report.states = check, states
        report.notes += state_notes(states)
        own = dict(_own_types(options, planned))
        write_artifact(aside, source, options, levels, weights, functions, report, own)


def _with_states_stored(
    model: ir.Model, source: Source, options: CompileOptions
) -> tuple[Source, list[dict[str, Any]]]:
    """The source whose model is ``model``, with states as they are stored; rows of the report."""
    windows = find_windows(model, options.context + options.chunk)
    facts.put(model, windows)
    kept = reasons_to_keep(model, source.states, windows)
    run_passes(model, store(options))
    stored = stored_states(model, source.states, options.chunk)
    rows = state_rows(stored, kept, options.kv_type)
    return replace(source, model=model, states=stored), rows


def _own_types(
    options: CompileOptions, planned: Plan | None
) -> list[tuple[str, tuple[float, ...]]]:
    """The user's own types that the options name, with their code books."""
    asked = {dtype.name for dtype in planned.sites.values()} if planned else set()
    own = user_elements()
    return [(name, own[name].book) for name in sorted({*options.elements, *asked} & set(own))]


def _keep_branches(model: ir.Model) -> None:
    """Leave the sites in branches and loops float: kernels are called from the main graph only."""
    plan, left = facts.need(model, facts.BitPlan).choices, facts.need(model, facts.Skipped).reasons
    inside = {s.name for s in find_sites(model)[0] if s.node.graph is not model.graph} & set(plan)
    if inside:
        choices = {name: choice for name, choice in plan.items() if name not in inside}
        put_choices(model, choices, {**left, **dict.fromkeys(sorted(inside), IN_A_BRANCH)})


def _check_sites(model: ir.Model, source: Source) -> None:
    if not facts.need(model, facts.BitPlan).choices:
        reasons = facts.need(model, facts.Skipped).reasons
        first = next(iter(reasons.values()), "it has no weights")
        raise NothingToQuantize(f"{source.origin}: nothing to quantize ({first})")


def _float_check(model: ir.Model, source: Source, options: CompileOptions) -> dict[str, Any]:
    if not options.checked:
        return {"error": None, "reason": "--no-check"}
    from ladder.pipeline.float_check.check import check_float

    return check_float(model, source, options.dims_text)


def _build_level(
    shared: ir.Model,
    source: Source,
    options: CompileOptions,
    level: Level,
    weights: Any,
    folder: Path,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compile the library of a level; return its functions and the kernels of their products."""
    from ladder.codegen.build import build_library

    graphs, kernels = {}, []
    for name, graph, dims in functions_of(shared, source, options):
        facts.put(graph, machine_of(level.name))
        run_passes(graph, lower(options, dims))
        kernels += kernel_rows(graph, level.name, name)
        graphs[name] = graph
    with stage(f"compile for {level.name}"):
        signatures = build_library(graphs, level, weights, folder / f"{level.name}.so")
    return [vars(s) for s in signatures], kernels


def _need_compiler() -> None:
    """Refuse to compile after TVM's runtime is loaded: a process can load TVM only once."""
    if getattr(sys.modules.get("tvm.base"), "_RUNTIME_ONLY", False):
        raise LadderError(
            "this process loaded an artifact before it compiled anything, which loads TVM without "
            "its compiler: import ladder.codegen.build first, or compile in another process"
        )
