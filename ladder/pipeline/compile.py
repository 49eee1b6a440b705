"""A model in, an artifact out: the phases in order, or the cache's entry for them."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ladder.calibration.calibrate import calibrate
from ladder.calibration.outliers import mux_outliers
from ladder.errors import LadderError, NothingToQuantize
from ladder.frontend.types import CONTEXT, TOKENS, Source
from ladder.hardware.targets import Level, levels_of
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.element import user_elements
from ladder.ir.site import find_sites
from ladder.options.requests import Wish
from ladder.passes.allocate_uniform import AllocateUniform
from ladder.passes.bind_shapes import BindShapes
from ladder.passes.clean_up import CleanUp
from ladder.passes.fuse_operators import FuseOperators
from ladder.passes.infra.runner import run_passes
from ladder.passes.lower_convolutions import LowerConvolutions
from ladder.passes.lower_types import LowerTypes
from ladder.passes.muxing.report import outlier_notes
from ladder.passes.round_weights import RoundWeights
from ladder.passes.rounding.report import rounding_notes
from ladder.passes.stack_products import StackProducts
from ladder.pipeline.artifact_writer import write_artifact
from ladder.pipeline.plan_file import Plan, put_plan, read_plan
from ladder.pipeline.report import compile_report, kernel_rows, plan_rows, stack_notes
from ladder.pipeline.sources import load_source
from ladder.runtime.artifact import MANIFEST, file_hash
from ladder.support import cache
from ladder.support.files import check_folder, folder_aside
from ladder.support.progress import stage
from ladder.timing.cost_tables import machine_of


@dataclass
class Compiled:
    """The result of a compilation, JSON-ready through ``report``."""

    folder: Path
    report: dict[str, Any] = field(default_factory=dict)


def compile_model(
    model: str | Path | Source,
    output: str | Path,
    wish: Wish | None = None,
    planned: Plan | None = None,
) -> Compiled:
    """Compile ``model`` into an artifact folder. Identical work is taken from the cache.

    ``planned`` says every site's type, or the file that ``wish.plan`` names does.
    """
    wish, start = wish or Wish(), time.perf_counter()
    wish.check()
    check_folder(Path(output), MANIFEST)
    levels = levels_of(wish.target)
    if wish.plan:
        planned = read_plan(Path(wish.plan))
    source = load_source(model)
    place = cache.entry(
        "artifacts",
        source.digest,
        replace(wish, plan="", calib=None),
        file_hash(wish.calib) if wish.calib else "",
        sorted(planned.sites.items()) if planned else "",
        _own_types(wish, planned),
        [machine_of(level.name) for level in levels],
        version("apache-tvm"),
    )
    if not (place / MANIFEST).exists():
        _compile_into(place, source, wish, levels, planned)
    target = Path(output)
    with folder_aside(target, MANIFEST) as aside:
        for file in place.iterdir():
            shutil.copy2(file, aside)
        report = _complete(aside / MANIFEST, source, wish, planned, start)
    return Compiled(target, report)


def _complete(
    path: Path, source: Source, wish: Wish, planned: Plan | None, start: float
) -> dict[str, Any]:
    """Write into a manifest of the cache what its key does not have; returns the report.

    Two plans with the same types, or one model under two names, have one entry.
    """
    manifest = json.loads(path.read_text())
    manifest["origin"]["path"] = source.origin
    manifest["wish"] = vars(wish)
    report: dict[str, Any] = manifest["report"]
    report |= {"model": source.origin, **plan_rows(report, wish, planned)}
    report["seconds"] = round(time.perf_counter() - start, 2)
    path.write_text(json.dumps(manifest, indent=1, default=str))
    return report


def _compile_into(
    place: Path,
    source: Source,
    wish: Wish,
    levels: tuple[Level, ...],
    planned: Plan | None,
) -> None:
    from ladder.codegen.packing import Weights

    shared = facts.clone(source.model)
    if not source.is_language_model:
        run_passes(shared, [CleanUp(), FuseOperators()])
    if planned is not None:
        put_plan(shared, planned, source.digest)
    else:
        keep, rules = "|".join(wish.keep), "|".join(wish.rules)
        run_passes(shared, [AllocateUniform(wish.type, keep, rules)])
    _check_sites(shared, source)
    sites = find_sites(shared)[0]
    calibrate(shared, mux_outliers(shared, source, wish), wish)
    run_passes(shared, [RoundWeights(wish.rounding), StackProducts()])
    weights = Weights()
    with folder_aside(place, MANIFEST) as aside:
        functions: list[dict[str, Any]] = []
        kernels: list[dict[str, Any]] = []
        for level in levels:
            functions, rows = _build_level(shared, source, wish, level, weights, aside)
            kernels += rows
        report = compile_report(shared, sites, source, weights)
        told = [*outlier_notes(shared), *rounding_notes(shared), *stack_notes(shared)]
        report["notes"] = [*source.notes, *told]
        report["kernels"] = kernels
        own = dict(_own_types(wish, planned))
        write_artifact(aside, source, wish, levels, weights, functions, report, own)


def _own_types(wish: Wish, planned: Plan | None) -> list[tuple[str, tuple[float, ...]]]:
    """The types of the user's own that are asked for, by name and code book."""
    asked = {DType.parse(text).name for text in planned.sites.values()} if planned else set()
    own = user_elements()
    return [(name, own[name].book) for name in sorted({*wish.elements, *asked} & set(own))]


def _check_sites(model: ir.Model, source: Source) -> None:
    plan = facts.get(model, facts.BitPlan)
    if plan is None or not plan.choices:
        reasons = facts.get(model, facts.LeftAlone)
        first = next(iter(reasons.reasons.values()), "it has no weights") if reasons else ""
        raise NothingToQuantize(f"{source.origin}: nothing to quantize ({first})")


def _build_level(
    shared: ir.Model,
    source: Source,
    wish: Wish,
    level: Level,
    weights: Any,
    folder: Path,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The functions of a level's library, and which kernels their products got."""
    _need_compiler()
    from ladder.codegen.build import build_library

    graphs, kernels = {}, []
    for name, dims in _functions(source, wish).items():
        graph = facts.clone(shared)
        facts.put(graph, machine_of(level.name))
        lower = [LowerConvolutions(), LowerTypes(wish.activation, wish.scheme)]
        run_passes(graph, [BindShapes(dims), *lower])
        kernels += kernel_rows(graph, level.name, name)
        graphs[name] = graph
    with stage(f"compile for {level.name}"):
        signatures = build_library(graphs, level, weights, folder / f"{level.name}.so")
    return [vars(s) for s in signatures], kernels


def _need_compiler() -> None:
    """TVM cannot be had twice: a process that ran an artifact first has it as a runtime alone."""
    if getattr(sys.modules.get("tvm.base"), "_RUNTIME_ONLY", False):
        raise LadderError(
            "this process loaded an artifact before it compiled anything, and so has TVM without "
            "its compiler: import ladder.codegen.build first, or compile in another process"
        )


def _functions(source: Source, wish: Wish) -> dict[str, str]:
    """Function name -> the dimensions it is bound to."""
    if not source.is_language_model:
        return {"main": wish.dims}
    rows = wish.context + wish.chunk  # a padded last chunk never reaches behind the end
    return {
        name: f"{TOKENS}:{tokens}/{CONTEXT}:{rows}"
        for name, tokens in (("decode", 1), ("prefill", wish.chunk))
    }
