"""The driver: the one module that sees every layer. The CLI and the Python API call it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.calibration.calibrate import calibrate
from ladder.calibration.outliers import mux_outliers
from ladder.errors import LadderError, NothingToQuantize
from ladder.frontend.load import CONTEXT, TOKENS, Source, load, state_pairs
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
from ladder.pipeline.plan_file import Plan, put_plan, read_plan
from ladder.pipeline.report import compile_report, kernel_rows, plan_rows, stack_notes
from ladder.runtime.artifact import ALIGNMENT, FORMAT, MANIFEST, TOKENIZER, WEIGHTS, file_hash
from ladder.support import cache
from ladder.support.files import check_folder, folder_aside, full_disk_is_plain
from ladder.support.progress import stage
from ladder.timing.cost_tables import machine_of


@dataclass
class Compiled:
    """The result of a compilation, JSON-ready through ``report``."""

    folder: Path
    report: dict[str, Any] = field(default_factory=dict)


def load_source(model: str | Path | Source) -> Source:
    """Load through the cache of traces: a language model is traced once."""
    if isinstance(model, Source):
        return model
    path = Path(model)
    if path.suffix == ".onnx":
        return load(path)
    if not path.exists():
        return load(path)  # says what is wrong
    return _traced(path)


def _traced(path: Path) -> Source:
    stamp = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in _files(path))
    place = cache.entry("traces", path.resolve(), stamp, version("onnx-ir"))
    if (place / "source.json").exists():
        rest = json.loads((place / "source.json").read_text())
        return Source(ir.load(place / "model.onnx"), **{**rest, "eos": tuple(rest["eos"])})
    with stage("trace the model"):
        source = load(path)
    run_passes(source.model, [CleanUp(), FuseOperators()])
    with folder_aside(place, "source.json") as aside:
        ir.save(source.model, aside / "model.onnx", external_data="model.data")
        rest = {k: v for k, v in vars(source).items() if k != "model"}
        (aside / "source.json").write_text(json.dumps(rest))
    return _traced(path)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [f for f in path.iterdir() if f.is_file()]


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
    from ladder.codegen.weights import Weights

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
        _write(aside, source, wish, levels, weights, functions, report, own)


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


def _write(
    folder: Path,
    source: Source,
    wish: Wish,
    levels: tuple[Level, ...],
    weights: Any,
    functions: list[dict[str, Any]],
    report: dict[str, Any],
    types: dict[str, tuple[float, ...]],
) -> None:
    with full_disk_is_plain(folder):
        tensors = _write_weights(folder / WEIGHTS, weights.arrays)
        if source.tokenizer is not None:
            (folder / TOKENIZER).write_text(source.tokenizer)
        files = {f.name: file_hash(f) for f in sorted(folder.iterdir())}
        report["size_bytes"] = sum(f.stat().st_size for f in folder.iterdir())
        manifest = {
            "format": FORMAT,
            "versions": {name: version(name) for name in ("ladder", "apache-tvm", "onnx-ir")},
            "origin": {"path": source.origin, "digest": source.digest},
            "wish": vars(wish),
            "types": types,
            "levels": [level.name for level in levels],
            "files": files,
            "functions": functions,
            "tensors": tensors,
            "language_model": _language_model(source, wish),
            "report": report,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str))


def _write_weights(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    with path.open("wb") as file:
        for name, array in arrays.items():
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            rows[name] = {
                "dtype": str(array.dtype),
                "shape": list(array.shape),
                "offset": file.tell(),
            }
            file.write(np.ascontiguousarray(array).data)
    return rows


def _language_model(source: Source, wish: Wish) -> dict[str, Any] | None:
    if not source.is_language_model:
        return None
    return {
        "context": wish.context,
        "chunk": wish.chunk,
        "vocabulary": source.vocabulary,
        "eos": list(source.eos),
        "states": list(state_pairs(source.model)),
        "chat_template": source.chat_template,
    }


def known_model(digest: str) -> Path | None:
    """The traced float model with this digest, if the cache has it."""
    for found in (cache.cache_folder() / "traces").glob("*/source.json"):
        if json.loads(found.read_text())["digest"] == digest:
            return found.parent
    return None


__all__ = ["Compiled", "Wish", "compile_model", "known_model", "load_source"]
