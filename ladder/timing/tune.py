"""``ladder tune kernels``: find the fastest scheme on this machine by a coarse measurement.

Only types with several schemes are timed. The schemes of a type take turns, so that other load on
the machine affects all of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS, Level
from ladder.ir.dtype import DType
from ladder.passes.kernel_choice import SCHEMES, choose
from ladder.runtime.session import threads
from ladder.support import entries
from ladder.support.progress import track
from ladder.timing.catalogue import all_types
from ladder.timing.cost_tables import machine_of, measured_on, save_tuned, tuned_file
from ladder.timing.product import Call, level_here, loaded
from ladder.timing.steadiness import Timed

ALL = "all"
COMMON = ("int2:g128", "int3:g128", "int4:g128", "int8:g128", "nf4:g128", "ternary:g128")
N, K = 1024, 2048
TOKENS = (1, 4, 16, 64)
ACTIVATION = "int8"
ROTATED = 64e6  # bytes of weights that are used in turn
SECONDS, ROUNDS = 0.012, 3
TIE = 0.999  # of the least time: what is saved for a choice that stays


def tune_kernels(
    target: str, types: Sequence[str] = COMMON
) -> tuple[list[dict[str, Any]], Path | None]:
    """Time every scheme of types that have several, save the table, and report what changes.

    Times are kept by element, so one type is timed of those that differ only in their group. There
    is a row for each type and M: times by scheme, the ``fastest``, the scheme ``before``, the one
    that is ``chosen`` now (another only if it is faster by more than repeats differ), and whether
    the times are ``steady``. Times that were taken while the machine was busy are not saved; if
    there are no others, there is no file.
    """
    wanted = all_types() if tuple(types) == (ALL,) else [DType.parse(text) for text in types]
    level = level_here(target)
    machine = machine_of(level.name)
    rows: list[dict[str, Any]] = []
    for dtype in track(_choices(wanted, level), "compile and time the kernels"):
        before = {m: choose(dtype, ACTIVATION, m, machine).scheme for m in TOKENS}
        for m, times in _times(dtype, level).items():
            rows.append({"type": str(dtype), "m": m, **_choice(times, before[m])})
    steady = {row["type"] for row in rows} - {row["type"] for row in rows if not row["steady"]}
    table = [
        {"type": row["type"], "m": row["m"], "scheme": scheme, "median_s": seconds}
        for row in rows
        if row["type"] in steady
        for scheme, seconds in _saved(row).items()
    ]
    saved = save_tuned(level.name, table, measured_on(N, K, threads())) if table else None
    return rows, saved


def _choice(times: Mapping[str, Timed], before: str) -> dict[str, Any]:
    """What the times of the schemes say; a gain within the spread of repeats changes nothing."""
    fastest = min(times, key=lambda scheme: times[scheme].median)
    chosen = fastest
    if before in times:
        noise = max(times[before].range, times[fastest].range)
        gained = times[before].median - times[fastest].median
        chosen = fastest if gained > noise else before
    return {
        "times": {scheme: timed.median for scheme, timed in times.items()},
        "fastest": fastest,
        "before": before,
        "chosen": chosen,
        "steady": all(timed.steady for timed in times.values()),
    }


def _saved(row: Mapping[str, Any]) -> dict[str, float]:
    """The times as they are saved: that of a choice that stays is made the least."""
    times: dict[str, float] = dict(row["times"])
    if row["chosen"] != row["fastest"]:
        times[row["chosen"]] = TIE * times[row["fastest"]]
    return times


def tuned_tables() -> list[dict[str, Any]]:
    """The tables that were tuned on this machine: level, file, and how they were measured."""
    found = ((level, tuned_file(level)) for level in LEVELS)
    return [
        {"level": level, "file": str(path), **json.loads(path.read_text(encoding="utf-8"))}
        for level, path in found
        if entries.has(path.parent, path.name)
    ]


def reset_tuned() -> list[str]:
    """Remove the tables of this machine, so that the shipped ones count; returns the files."""
    removed = [Path(table["file"]) for table in tuned_tables()]
    for path in removed:
        entries.drop(path.parent, path.name)
    return [str(path) for path in removed]


def schemes_of(dtype: DType, level: Level) -> list[str]:
    """The schemes that a type can have on a level."""
    machine = machine_of(level.name)
    asked = ((s, choose(dtype, ACTIVATION, 1, machine, s).scheme) for s in SCHEMES[1:])
    return [scheme for scheme, got in asked if scheme == got]


def _choices(wanted: Sequence[DType], level: Level) -> list[DType]:
    """One type for each element that has several schemes."""
    elements: dict[str, DType] = {}
    for dtype in wanted:
        if dtype.is_float:
            raise LadderError(f"--types: '{dtype}' is a float: it has no low-bit kernel to time")
        elements.setdefault(dtype.name, dtype)
    found = [dtype for dtype in elements.values() if len(schemes_of(dtype, level)) > 1]
    if not found:
        raise LadderError(
            f"--types: nothing to tune: on {level.name} each of them has only one scheme"
        )
    return found


def _times(dtype: DType, level: Level) -> dict[int, dict[str, Timed]]:
    """M -> scheme -> the times of a product."""
    made = {s: loaded(dtype, N, K, ACTIVATION, s, level, ROTATED) for s in schemes_of(dtype, level)}
    found = {}
    for m in TOKENS:
        calls = {scheme: call_of(m) for scheme, (call_of, _, _) in made.items()}
        rounds: dict[str, list[float]] = {scheme: [] for scheme in made}
        begin, cpu = time.perf_counter(), time.process_time()
        for _ in range(ROUNDS):
            for scheme, call in calls.items():
                rounds[scheme].append(_round(call, made[scheme][1]))
        share = (time.process_time() - cpu) / (time.perf_counter() - begin)
        found[m] = {scheme: Timed(tuple(times), share) for scheme, times in rounds.items()}
    return found


def _round(call: Call, sets: list[Any]) -> float:
    """Mean seconds of a call over a short time, without the first call."""
    call(sets[-1])
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < SECONDS:
        call(sets[done % len(sets)])
        done += 1
    return (time.perf_counter() - start) / done
