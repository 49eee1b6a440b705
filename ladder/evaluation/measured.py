"""What was measured of an artifact, kept next to its manifest in ``measured.json``.

The file is no part of the artifact: the runtime does not read it, and no hash or signature covers
it. It holds the last result of each kind, and the hash of the manifest that the results are about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.runtime.artifact import MANIFEST, MEASURED, file_hash
from ladder.runtime.session import threads
from ladder.support.documents import parse_json
from ladder.support.fields import Kind, field
from ladder.support.files import file_aside
from ladder.support.processor import cpu_name

FORMAT = 1
EVAL, BENCH, SAMPLE = "eval", "bench", "sample"
# The fields of each kind that are needed to show it. Others may be there, or be null.
NEEDED: Mapping[str, Mapping[str, Kind]] = {
    EVAL: {"perplexity": float, "tokens": int, "text": str},
    BENCH: {
        "decode_tokens_per_s": float,
        "prefill_tokens_per_s": float,
        "threads": int,
        "breakdown": dict,
    },
    SAMPLE: {"prompt": str, "text": str},
}
OPTIONAL: Mapping[str, Mapping[str, Kind]] = {
    EVAL: {"reference_perplexity": float, "kl_mean": float, "kl_p99": float},
}
Results = dict[str, dict[str, Any]]


def keep(folder: Path, kind: str, result: Mapping[str, Any]) -> str:
    """Keep a result with the machine and the date; returns one line that says where, or why not."""
    path = folder / MEASURED
    about = {"machine": cpu_name(), "threads": threads(), "date": date.today().isoformat()}
    rows = {**_readable(folder), kind: {**result, **about}}
    content = {"format": FORMAT, "manifest": file_hash(folder / MANIFEST), **rows}
    try:
        with file_aside(path) as aside:
            aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except LadderError as error:
        return f"the result is not kept for 'ladder report': {error}"
    return f"the result is kept in {path} for 'ladder report'"


def _readable(folder: Path) -> Results:
    """The results to keep next to a new one; a file that cannot be read is replaced."""
    try:
        return measured(folder)
    except LadderError:
        return {}


def measured(folder: Path) -> Results:
    """Kind -> result, for the artifact that the folder holds now; empty if nothing was measured.

    A ``LadderError`` names what is wrong in a file that was changed.
    """
    path = folder / MEASURED
    if not path.exists():
        return {}
    try:
        row = parse_json(path.read_bytes())
        if field(row, "format", int) != FORMAT:
            raise LadderError(f"format {row['format']}, this version of Ladder reads {FORMAT}")
        if field(row, "manifest", str) != file_hash(folder / MANIFEST):
            return {}  # of an artifact that was here before
        return {kind: _checked(kind, row[kind]) for kind in NEEDED if kind in row}
    except (LadderError, ValueError, OSError) as error:
        raise LadderError(f"{path}: {error}; remove it and measure again") from error


def _checked(kind: str, row: Any) -> dict[str, Any]:
    for name, type in NEEDED[kind].items():
        field(row, name, type)
    for name, type in OPTIONAL.get(kind, {}).items():
        if row.get(name) is not None:
            field(row, name, type)
    if kind == BENCH:
        for name in row["breakdown"]:
            field(row["breakdown"], name, float)
    found: dict[str, Any] = row
    return found
