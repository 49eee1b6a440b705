"""Compare a float graph in TVM with ONNX Runtime on the model as it was given, before rounding.

    model, original   --ONNX Runtime-->  outputs
    model, prepared   --ONNX Runtime-->  outputs, and the values around the low-bit products
    model, prepared   --TVM-->           the same, of all operators but the low-bit products

Products with low-bit weights have kernels of Ladder's, which are compared bit by bit elsewhere.
Their results come from ONNX Runtime here, so that TVM's slow float products are not run. Of blocks
that are alike, the first is compared.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ladder.errors import one_line
from ladder.frontend.load import is_read_as_it_is
from ladder.frontend.types import TOKENS, Source
from ladder.hardware.targets import native_level
from ladder.ir import facts
from ladder.ir.states import CONTEXT
from ladder.passes.infra.runner import run_passes
from ladder.pipeline.float_check.compare import Comparison
from ladder.pipeline.float_check.random_inputs import Run, random_runs
from ladder.pipeline.phases import bind
from ladder.reference import Reference
from ladder.support import cache, entries
from ladder.support.progress import stage

RESULT = "check.json"
ROWS, START = 16, 3  # of a language model's states; where its tokens begin
CALLS = {"decode": 1, "prefill": 5}  # tokens of a language model's functions, for the check


def check_float(prepared: ir.Model, source: Source, dims: str) -> dict[str, Any]:
    """Refuse a model that TVM would compute wrongly; return the error for the report.

    ``prepared`` is after its first passes and has its plan, ``dims`` are the sizes of its open
    dimensions. The result is kept in the cache.
    """
    calls = _calls(source, dims)
    place = cache.entry(
        "checks",
        source.digest,
        list(calls.values()),
        sorted(facts.need(prepared, facts.BitPlan).choices),
        native_level().name,
        version("apache-tvm"),
        version("onnxruntime"),
    )
    if not entries.whole(place, RESULT):
        with stage("compare with ONNX Runtime"):
            found = _check(prepared, source, calls)
        with entries.new_entry(place) as aside:
            (aside / RESULT).write_text(json.dumps(found))
    result: dict[str, Any] = json.loads((place / RESULT).read_text())
    return result


def _calls(source: Source, dims: str) -> dict[str, str]:
    """Function -> the sizes of its open dimensions."""
    if not source.is_language_model:
        return {"main": dims}
    growing = any(CONTEXT in state.shape for state in source.states)
    rows = f"/{CONTEXT}:{ROWS}" if growing else ""
    return {name: f"{TOKENS}:{tokens}{rows}" for name, tokens in CALLS.items()}


def _check(prepared: ir.Model, source: Source, calls: dict[str, str]) -> dict[str, Any]:
    errors = []
    for dims in calls.values():
        bound = facts.clone(prepared)
        run_passes(bound, bind(dims))
        _sort(bound)
        try:
            runs = _original_runs(bound, source)
        except Exception as error:  # whatever ONNX Runtime says of the model
            return {"error": None, "reason": f"ONNX Runtime does not run it: {one_line(error)}"}
        errors.append(Comparison(bound, source.origin).error(runs))
    return {"error": max(errors), "reason": ""}


def _sort(model: ir.Model) -> None:
    """Let TopK sort where it may give any order, so that orders can be compared."""
    for node in model.graph.all_nodes():
        if node.op_type == "TopK" and node.domain == "":
            node.attributes["sorted"] = ir.AttrInt64("sorted", 1)


def _original_runs(bound: ir.Model, source: Source) -> list[Run]:
    """Of the model as it was given. A trace was compared with torch, and is its own original."""
    speaks, file = source.is_language_model, Path(source.origin)
    model = file if is_read_as_it_is(file) else bound if speaks else source.model
    given = {"position": np.array([START])} if speaks else {}
    return random_runs(bound, Reference(model, optimize=False).run, given)
