"""Measured times of low-bit products, a table a target level: shipped, read by the driver."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

from ladder.ir.dtype import DType
from ladder.ir.facts import Machine

FOLDER = Path(__file__).parent / "cost_tables"


def machine_of(level: str) -> Machine:
    """What passes may know of a level: the shipped table, if there is one."""
    file = FOLDER / f"{level}.json"
    if not file.exists():
        return Machine(level)
    table = json.loads(file.read_text())
    costs = {
        element: {
            scheme: {int(m): seconds for m, seconds in by_m.items()}
            for scheme, by_m in by_scheme.items()
        }
        for element, by_scheme in table["seconds"].items()
    }
    return Machine(level, costs, table["measured"])


def measured_on(n: int, k: int, threads: int) -> str:
    """What a table says of itself: the size, the machine and the day."""
    cpu = cpu_name()
    return f"{n}x{k}, {threads} threads, {cpu}, {date.today().isoformat()}"


def cpu_name() -> str:
    """The processor's name as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def write_table(path: Path, rows: Iterable[dict[str, Any]], measured: str) -> None:
    """Rows of ``ladder bench kernel --all-types`` as a cost table."""
    seconds: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        element = DType.parse(row["type"]).name
        by_m = seconds.setdefault(element, {}).setdefault(row["scheme"], {})
        by_m.setdefault(str(row["m"]), float(f"{row['median_s']:.4g}"))
    path.write_text(json.dumps({"measured": measured, "seconds": seconds}, indent=1) + "\n")
