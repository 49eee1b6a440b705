"""Compile or quantize within a budget: make a plan and apply it in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ladder.errors import LadderError
from ladder.frontend.load import FRONTENDS
from ladder.frontend.onnx_file import load_onnx
from ladder.frontend.types import Source
from ladder.options.requests import CompileOptions, PlanOptions, QuantizeOptions
from ladder.options.split import SOURCE, split
from ladder.passes.allocation.axes import SIZE, limited, suggestion
from ladder.pipeline.compile import Compiled, compile_model
from ladder.pipeline.phases import PREPARE, PREPARE_FILE
from ladder.pipeline.plan_file import Plan, read_plan, write_plan
from ladder.pipeline.quantize import QuantizeReport, quantize_onnx
from ladder.pipeline.rounding_choice import with_rounding
from ladder.pipeline.source_plan import source_plan
from ladder.pipeline.sources import load_source
from ladder.planning.default_request import says_what, with_default
from ladder.planning.folder_size import folder_bytes
from ladder.planning.make import OTHER_BYTES, plan_model
from ladder.runtime.artifact import own_files
from ladder.support.files import check_folder
from ladder.support.units import show_size

ATTEMPTS = 3  # to meet a limit on size: the first one nearly always does
SPARE = 8192  # bytes that the next attempt leaves unused: sizes count in whole clusters
Model = str | Path | Source
O = TypeVar("O", CompileOptions, QuantizeOptions)  # noqa: E741


def compile_in_one_step(
    model: Model,
    output: str | Path,
    given: Mapping[str, Any],
    save_plan: str | Path | None = None,
) -> Compiled:
    """Compile with the options of ``ladder compile``, given by name; with a budget, plan first.

    The plan is written to the file ``save_plan``, and is in the artifact's report under ``plan``.
    Where the options name no type and no budget, ``with_default`` chooses.
    """
    options, asked = split(given, CompileOptions)  # refuses what is wrong before a model is loaded
    options.check()
    if asked is not None:
        asked.check()
    if asked is None and says_what(given) and given.get("type") != SOURCE:
        _refuse_saving(save_plan)
    check_folder(Path(output), own_files)
    source = load_source(model, options.trust_remote_code)
    request = with_default(source, given)
    options, asked = split(request.given, CompileOptions)
    planned, notes = None, [request.said] if request.said else []
    if asked is not None:
        return _compile_planned(source, output, options, asked, save_plan, notes)
    if request.given.get("type") == SOURCE:
        planned = source_plan(source, options)
        if save_plan is not None:
            write_plan(Path(save_plan), planned)
    if planned is None:
        _refuse_saving(save_plan)
    return compile_model(source, output, options, planned, notes)


def quantize_in_one_step(
    source: str | Path,
    target: str | Path,
    given: Mapping[str, Any],
    save_plan: str | Path | None = None,
) -> QuantizeReport:
    """Quantize an ONNX file with the options of ``ladder quantize``; return the report."""
    _refuse_traced(Path(source))
    options, asked = split(given, QuantizeOptions)
    options.check()
    planned = read_plan(options.plan) if options.plan else None
    if asked is None:
        _refuse_saving(save_plan)
    else:
        asked.check()
        _refuse_times(asked)
        loaded = load_onnx(Path(source))
        planned = _planned(loaded, asked, save_plan, PREPARE_FILE)
        options = _rounded_like(options, loaded, asked, planned)
    report = quantize_onnx(Path(source), Path(target), options, planned)
    budget = asked.budget if asked else None
    size = budget.limit(SIZE) if budget is not None else None
    if size is not None and report.size_bytes > size:
        report.notes.append(
            f"the file is {show_size(report['size_bytes'], up=True)}, over --size "
            f"{show_size(size)}: the limit is on the weights of the plan; the graph, and sites "
            "that this format leaves float, come on top"
        )
    return report


def _compile_planned(
    source: Source,
    output: str | Path,
    options: CompileOptions,
    asked: PlanOptions,
    save: str | Path | None,
    notes: list[str],
) -> Compiled:
    """Plan and compile; again with what the folder really holds, if it exceeds a limit on size."""
    limit = asked.budget.limit(SIZE) if asked.budget is not None else None
    others: int | None = None
    for _ in range(ATTEMPTS):
        planned = _planned(source, asked, save, PREPARE, others)
        rounded = _rounded_like(options, source, asked, planned)
        made = compile_model(source, output, rounded, planned, notes)
        size = folder_bytes(made.folder)
        if limit is None or size <= limit:
            return made
        weights = int(planned.predicted[SIZE.key]) - int(planned.asked[OTHER_BYTES])
        others = size - weights + SPARE
    assert limit is not None
    made.report.notes.append(
        f"the folder takes {show_size(size, up=True)}, over --size {show_size(limit)}, after "
        f"{ATTEMPTS} plans: give a smaller size"
    )
    return made


def _rounded_like(options: O, source: Source, asked: PlanOptions, planned: Plan) -> O:
    """The options with the rounding of the plan, and the text that it was made on."""
    found = with_rounding(options, source, planned)
    return replace(found, calib=asked.calib) if found.calibrated else found


def _planned(
    source: Source,
    asked: PlanOptions,
    save: str | Path | None,
    prepare: Any,
    others: int | None = None,
) -> Plan:
    found = plan_model(source, asked, prepare, others)
    assert found.plan is not None  # ``split`` gives plan options only with a budget
    if save is not None:
        found.save(Path(save))
    return found.plan


def _refuse_traced(source: Path) -> None:
    """Refuse a model that is no graph until it is traced."""
    if any(frontend.traced and frontend.accepts(source) for frontend in FRONTENDS):
        raise LadderError(
            f"{source}: 'ladder quantize' reads ONNX files; this model is for "
            f"'ladder compile {source} -o DIR'"
        )


def _refuse_saving(save: str | Path | None) -> None:
    if save is not None:
        raise LadderError(f"--save-plan {save}: no plan is made; give a budget, e.g. --bpw 3.5")


def _refuse_times(asked: PlanOptions) -> None:
    if asked.timed:
        raise LadderError(
            "ONNX Runtime runs the file, but Ladder's times are those of its own kernels: "
            f"give {suggestion(axis for axis in limited() if not axis.timed)} instead of a latency"
        )
