"""Measured times of low-bit products, a table for each level: shipped, or tuned on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS
from ladder.ir.dtype import DType
from ladder.ir.facts import Machine
from ladder.runtime.session import threads
from ladder.support import cache, entries
from ladder.support.files import file_aside
from ladder.support.processor import cpu_name

FOLDER = Path(__file__).parent / "cost_tables"

Seconds = dict[str, dict[str, dict[str, float]]]  # the same as JSON has it
Times = dict[str, dict[str, dict[int, float]]]  # element -> scheme -> M -> seconds


def machine_of(level: str) -> Machine:
    """The fact Machine of a level, with times tuned on this machine, else the shipped ones."""
    shipped, tuned = FOLDER / f"{level}.json", tuned_file(level)
    costs, measured = _read_table(shipped) if shipped.exists() else ({}, "")
    own, tuning = _read_table(tuned) if entries.has(tuned.parent, tuned.name) else ({}, "")
    return Machine(
        level,
        {**costs, **own},
        f"shipped: {measured}",
        LEVELS[level].schemes,
        dict.fromkeys(own, f"tuned here: {tuning}"),
    )


def tuned_file(level: str) -> Path:
    """Where ``ladder tune kernels`` saves: by CPU, level, threads, and the kernels' own source."""
    return cache.entry("tuned", cpu_name(), level, threads()) / "times.json"


def _read_table(file: Path) -> tuple[Times, str]:
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        costs = {
            element: {
                scheme: {int(m): float(seconds) for m, seconds in by_m.items()}
                for scheme, by_m in by_scheme.items()
            }
            for element, by_scheme in table["seconds"].items()
        }
        return costs, str(table["measured"])
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise LadderError(
            f"{file}: not a table of kernel times; delete it, or run ladder tune kernels again"
        ) from error


def measured_on(n: int, k: int, threads: int) -> str:
    """How a table was measured: the size, the machine and the date."""
    cpu = cpu_name()
    return f"{n}x{k}, {threads} threads, {cpu}, {date.today().isoformat()}"


def write_table(path: Path, rows: Iterable[dict[str, Any]], measured: str) -> None:
    """Rows of ``ladder bench kernel --all-types`` as a cost table."""
    with file_aside(path) as aside:
        aside.write_text(_table(_seconds_of(rows), measured))


def save_tuned(level: str, rows: Iterable[dict[str, Any]], measured: str) -> Path:
    """The same rows as the table of this machine, with the elements that it has already."""
    path, seconds = tuned_file(level), _seconds_of(rows)
    if entries.has(path.parent, path.name):
        seconds = {**json.loads(path.read_text(encoding="utf-8"))["seconds"], **seconds}
    with entries.put(path.parent, path.name) as aside:
        aside.write_text(_table(seconds, measured))
    return path


def _seconds_of(rows: Iterable[dict[str, Any]]) -> Seconds:
    seconds: Seconds = {}
    for row in rows:
        element = DType.parse(row["type"]).name
        by_m = seconds.setdefault(element, {}).setdefault(row["scheme"], {})
        by_m.setdefault(str(row["m"]), float(f"{row['median_s']:.4g}"))
    return seconds


def _table(seconds: Seconds, measured: str) -> str:
    return json.dumps({"measured": measured, "seconds": seconds}, indent=1) + "\n"
