"""What reports say about rounding."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ladder.ir import facts
from ladder.ir.facts import Rounding


def rounding_row(model: ir.Model, site: str) -> dict[str, Any]:
    """What a report says about the rounding of a site."""
    found = facts.get(model, Rounding) or Rounding()
    row: dict[str, Any] = {"weight_error": found.errors.get(site)}
    if site in found.methods:
        row["rounding"] = found.methods[site]
    if site in found.output_errors:
        row["output_errors"] = found.output_errors[site]
    if site in found.notes:
        row["rounding_note"] = found.notes[site]
    return row


def rounding_notes(model: ir.Model) -> list[str]:
    """The calibration text, and every site where options were not followed."""
    found = facts.get(model, Rounding)
    if found is None:
        return []
    by_note: dict[str, list[str]] = {}
    for site, note in found.notes.items():
        by_note.setdefault(note, []).append(site)
    said = [f"rounding of {', '.join(names)}: {note}" for note, names in by_note.items()]
    texts = found.calibrated.items()
    whole = [found.whole] if found.whole else []
    calibrated = [f"rounding was calibrated on {n} tokens of {text}" for text, n in texts]
    return [*calibrated, *whole, *said]
