"""Rows for ``ladder targets``, also where only the runtime is installed."""

from __future__ import annotations

from typing import Any

from ladder.hardware.targets import ACCELERATORS, FAMILIES, LEVELS, runs_here


def target_rows() -> list[dict[str, Any]]:
    """A row for each target."""
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
    for accelerator in ACCELERATORS.values():
        rows.append(
            {
                "target": accelerator.name,
                "architecture": accelerator.arch,
                "kernels": accelerator.kernels,
                "needs": "'ladder kernels build': low-bit products, not whole models",
                "runs_here": "no",
            }
        )
    for name, levels in FAMILIES.items():
        arch = LEVELS[levels[0]].arch
        row = {"target": name, "architecture": arch, "kernels": "all of " + ", ".join(levels)}
        rows.append({**row, "needs": "any", "runs_here": "yes"})
    return rows
