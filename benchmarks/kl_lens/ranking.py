"""Kendall's tau of each measure against each site's own change of perplexity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.kl_lens.plans import ROUNDING
from benchmarks.rank_sites import (
    CALIBRATION,
    CHANGE,
    PART_TOKENS,
    PART_WINDOWS,
    Asked,
    Table,
    agreement,
    agreement_of_halves,
    means,
    measure,
    parts_of_text,
)
from ladder.calibration.text_windows import calibration
from ladder.frontend.types import Source

ALL_SITES = 10_000
WINDOWS, TOKENS = 8, 256


def ranking(source: Source, type: str, parts: int, folder: Path) -> dict[str, Any]:
    """Tau by measure for all sites in one type, on so many parts of the held-out text."""
    name = f"rank-{source.digest[:16]}-{type.replace(':', '-')}.jsonl"
    table, asked = Table.read(folder / name), Asked(type, ALL_SITES, ROUNDING)
    windows = calibration(source, None, WINDOWS, TOKENS).tokens
    names = measure(source, table, CALIBRATION, windows, asked)
    done = []
    for number, part in enumerate(parts_of_text(source, parts)):
        done.append(f"part {number}")
        measure(source, table, done[-1], part, asked)
    changes = dict(zip(names, means(table, CHANGE, names, done), strict=True))
    return {
        "type": type,
        "sites": len(names),
        "tokens": len(done) * PART_WINDOWS * PART_TOKENS,
        "tau": {name: taus[0] for name, taus in agreement(table, names, done).items()},
        "halves": agreement_of_halves(table, names, done),
        "changes": changes,
    }
