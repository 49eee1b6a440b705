"""States as the report lists them, with the reason where one takes more memory than it might."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from ladder.ir.facts import Windows
from ladder.ir.states import ROWS, StateSpec
from ladder.passes.infra.rows import readers_of, write_of
from ladder.passes.store_states import FP32

MASK = 3  # input of Attention


def reasons_to_keep(
    model: ir.Model, specs: Sequence[StateSpec], windows: Windows
) -> dict[str, tuple[str, str]]:
    """State -> (why it keeps all rows, why it keeps its type), before it is rolled and stored.

    A reason is empty where there is none, or where all rows are needed.
    """
    inputs = {value.name: value for value in model.graph.inputs}
    return {s.name: _reasons(inputs[s.name], windows) for s in specs if s.kind == ROWS}


def _reasons(state: ir.Value, windows: Windows) -> tuple[str, str]:
    nodes = readers_of(state)
    if write_of(state) is None:
        others = sorted({node.op_type for node in nodes if node.op_type != "Attention"})
        reason = f"it is read by {', '.join(others)}, not by Attention alone"
        return reason, reason
    masks = {node.inputs[MASK].name for node in nodes if len(node.inputs) > MASK}  # type: ignore[union-attr]
    if masks & set(windows.others):
        return "what its layer attends to is no sliding window", ""
    if masks & set(windows.masks):
        return "another node of the graph depends on the number of its rows", ""
    return "", ""


def state_rows(
    specs: Sequence[StateSpec], kept: Mapping[str, tuple[str, str]], kv_type: str
) -> list[dict[str, Any]]:
    """A row for each state as it is stored, with a reason where it keeps more than it might."""
    rows = []
    for spec in specs:
        all_rows, type_kept = kept.get(spec.name, ("", ""))
        whole = spec.kind == ROWS and all_rows
        reasons = [
            *([f"all rows are kept: {all_rows}"] if whole else []),
            *([f"{spec.dtype} is kept: {type_kept}"] if type_kept and kv_type != FP32 else []),
        ]
        row = {"name": spec.name, "kind": spec.kind, "type": spec.dtype, "shape": list(spec.shape)}
        rows.append(row | {"reason": "; ".join(reasons)})
    return rows


def state_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notes about the states that have a reason."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if row["reason"]:
            names.setdefault(row["reason"], []).append(row["name"])
    return [f"{', '.join(found)}: {reason}" for reason, found in names.items()]
