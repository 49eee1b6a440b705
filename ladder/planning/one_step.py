"""Compile or quantize within a budget: make a plan and apply it in one step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.frontend.onnx_file import load_onnx
from ladder.frontend.types import Source
from ladder.options.requests import CompileOptions, PlanOptions, QuantizeOptions
from ladder.options.split import SOURCE, split
from ladder.passes.allocation.axes import SIZE, limited, suggestion
from ladder.pipeline.compile import Compiled, compile_model
from ladder.pipeline.phases import PREPARE, PREPARE_FILE
from ladder.pipeline.plan_file import Plan, read_plan
from ladder.pipeline.quantize import QuantizeReport, quantize_onnx
from ladder.pipeline.sources import load_source
from ladder.pipeline.stored_codes import source_plan
from ladder.planning.default_wish import with_default
from ladder.planning.make import plan_model
from ladder.runtime.artifact import own_files
from ladder.support.files import check_folder
from ladder.support.units import show_size

Model = str | Path | Source


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
    check_folder(Path(output), own_files)
    source = load_source(model, options.trust_remote_code)
    wish = with_default(source, given)
    options, asked = split(wish.given, CompileOptions)
    planned = None
    if asked is not None:
        planned = _planned(source, asked, save_plan, PREPARE)
    elif wish.given.get("type") == SOURCE:
        planned = source_plan(source, options)
    if planned is None:
        _refuse_saving(save_plan)
    notes = [wish.said] if wish.said else []
    return compile_model(source, output, options, planned, notes)


def quantize_in_one_step(
    source: str | Path,
    target: str | Path,
    given: Mapping[str, Any],
    save_plan: str | Path | None = None,
) -> QuantizeReport:
    """Quantize an ONNX file with the options of ``ladder quantize``; return the report."""
    options, asked = split(given, QuantizeOptions)
    options.check()
    planned = read_plan(options.plan) if options.plan else None
    if asked is None:
        _refuse_saving(save_plan)
    else:
        asked.check()
        _refuse_times(asked)
        planned = _planned(load_onnx(Path(source)), asked, save_plan, PREPARE_FILE)
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


def _planned(source: Source, asked: PlanOptions, save: str | Path | None, prepare: Any) -> Plan:
    found = plan_model(source, asked, prepare)
    assert found.plan is not None  # ``split`` gives plan options only with a budget
    if save is not None:
        found.save(Path(save))
    return found.plan


def _refuse_saving(save: str | Path | None) -> None:
    if save is not None:
        raise LadderError(f"--save-plan {save}: no plan is made; give a budget, e.g. --bpw 3.5")


def _refuse_times(asked: PlanOptions) -> None:
    if asked.timed:
        raise LadderError(
            "ONNX Runtime runs the file, but Ladder's times are those of its own kernels: "
            f"give {suggestion(axis for axis in limited() if not axis.timed)} instead of a latency"
        )
