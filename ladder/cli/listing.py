"""Rows for ``ladder types | passes``."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ladder.hardware.targets import levels_of
from ladder.ir.activation import check
from ladder.ir.dtype import ALIASES, DType
from ladder.ir.element import ELEMENTS
from ladder.ir.facts import Machine
from ladder.passes.infra.registry import PASSES, pass_class
from ladder.passes.kernel_choice import choose, rungs_of
from ladder.timing.cost_tables import machine_of

EXAMPLE = 4096  # bits per weight are given for a weight with so many in and out features


def type_rows(target: str, activation: str) -> list[dict[str, Any]]:
    """A row for each element and alias: its cost and its kernels on ``target`` at M = 1 and 128."""
    check(activation)
    level = levels_of(target)[-1]
    machine = machine_of(level.name)
    return [_type_row(text, machine, activation) for text in (*_examples(), *ALIASES)]


def _examples() -> list[str]:
    zero = {True: "", False: ":zp"}
    return [f"{e.name}:g128{zero[e.signed]}" for e in ELEMENTS.values()]


def _type_row(text: str, machine: Machine, activation: str) -> dict[str, Any]:
    dtype = DType.parse(text)
    element = dtype.element
    alias = text in ALIASES
    used = element.values[np.isfinite(element.values)]
    rungs = {m: choose(dtype, activation, m, machine) for m in (1, 128)}
    return {
        "type": text if alias else element.name,
        "example": str(dtype),
        "codes": len(used),
        "least": float(used.min()),
        "largest": float(used.max()),
        "bits_per_weight": round(dtype.bits_per_weight(EXAMPLE, EXAMPLE), 4),
        "onnx": element.onnx.name,
        "target": machine.name,
        **{
            f"m{m}": {
                "scheme": choice.scheme,
                "activation": choice.activation,
                **rungs_of(dtype, choice),
                "reason": choice.reason,
            }
            for m, choice in rungs.items()
        },
    }


def type_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows for a terminal; only ``--json`` has room for the reasons."""
    return [
        {
            "type": row["type"],
            "example": row["example"],
            "codes": row["codes"],
            "bits per weight": row["bits_per_weight"],
            "in registers, M=1": ", ".join(row["m1"]["in_registers"]),
            "M=128": row["m128"]["scheme"],
        }
        for row in rows
    ]


def pass_rows() -> list[dict[str, Any]]:
    """A row for each pass."""
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
