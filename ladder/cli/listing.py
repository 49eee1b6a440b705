"""Rows for ``ladder types | targets | passes``."""

from __future__ import annotations

import dataclasses
from typing import Any

from ladder.ir.dtype import DType
from ladder.ir.element import ELEMENTS
from ladder.passes.registry import PASSES, pass_class
from ladder.targets import FAMILIES, LEVELS, runs_here

EXAMPLE = 4096  # features of the square weight that bits per weight are quoted for


def type_rows() -> list[dict[str, Any]]:
    """One row an element type, quoted with groups of 128 and one scale per row."""
    rows = []
    for element in ELEMENTS.values():
        zero = "" if element.signed else ":zp"
        grouped, row = (DType.parse(f"{element.name}:{g}{zero}") for g in ("g128", "row"))
        rows.append(
            {
                "type": element.name,
                "example": str(grouped),
                "codes": f"{element.low}..{element.high}",
                "bits_per_weight_g128": grouped.bits_per_weight(EXAMPLE, EXAMPLE),
                "bits_per_weight_row": round(row.bits_per_weight(EXAMPLE, EXAMPLE), 4),
                "onnx": element.onnx.name,
            }
        )
    return rows


def target_rows() -> list[dict[str, Any]]:
    """One row a target."""
    rows: list[dict[str, Any]] = []
    for level in LEVELS.values():
        needs = " ".join(sorted(level.flags)) or "any"
        rows.append(
            {
                "target": level.name,
                "architecture": level.arch,
                "kernels": level.kernels,
                "needs": needs,
                "runs_here": "yes" if runs_here(level) else "no",
            }
        )
    for name, levels in FAMILIES.items():
        row = {"target": name, "architecture": "x86_64", "kernels": "all of " + ", ".join(levels)}
        rows.append({**row, "needs": "any", "runs_here": "yes"})
    return rows


def pass_rows() -> list[dict[str, Any]]:
    """One row a pass."""
    rows = []
    for name in PASSES:
        cls = pass_class(name)
        options = [f"{f.name.replace('_', '-')}: {f.type}" for f in dataclasses.fields(cls)]
        rows.append(
            {
                "pass": name,
                "does": (cls.__doc__ or "").strip().splitlines()[0],
                "options": ", ".join(options) or "-",
                "needs": ", ".join(f.__name__ for f in cls.needs) or "-",
                "gives": ", ".join(f.__name__ for f in cls.gives) or "-",
            }
        )
    return rows
