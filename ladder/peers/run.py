"""``ladder bench kernel --peers``: the comparison as one document, saved after every group."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.peers import OWN
from ladder.peers.engine import LIMITS
from ladder.peers.harness import (
    Case,
    Group,
    Settings,
    Shape,
    Station,
    batches,
    groups_of,
    limit_rows,
    measure,
    product_row,
)
from ladder.support.documents import parse_json
from ladder.support.files import file_aside
from ladder.support.processor import cpu_name
from ladder.support.progress import report

Document = dict[str, Any]
PARTS = 1000  # of a group, in the progress

# M = 1 at four weights, small batches, a prompt: what docs/results/performance.md shows.
PAGE_SHAPES: tuple[Shape, ...] = (
    *((m, 4096, 4096) for m in (1, 2, 4, 8, 16, 128)),
    (1, 3200, 3200),
    (1, 3200, 8640),
    (1, 11008, 4096),
)
PAGE_THREADS = (1, 2)


def compare(
    peers: Sequence[str],
    shapes: Sequence[Shape],
    threads: Sequence[int],
    types: Sequence[str] = (),
    settings: Settings | None = None,
    resume: Path | None = None,
) -> Document:
    """Measure Ladder and ``peers``; with ``resume``, save after every group and resume there.

    ``types`` are types of Ladder; the peers measure their forms of the same classes of bits.
    """
    from ladder.peers.own import own_kind

    own = [vars(own_kind(text)) for text in types]
    settings = settings or Settings()
    asked = {"peers": [*peers], "types": [str(DType.parse(t)) for t in types], **asdict(settings)}
    document = _start(asked, resume)
    groups = groups_of(shapes, threads)
    todo = [g for g in groups if _key(g) not in document["done"]]
    notes: list[str] = document["notes"]
    for count in dict.fromkeys(g.threads for g in todo):
        stations = _stations(peers, count, settings, notes)
        try:
            for group in (g for g in todo if g.threads == count):
                done = (len(groups) - len(todo) + todo.index(group)) * PARTS
                _measure_group(group, stations, own, settings, document, (done, len(groups)))
                document["notes"] = notes = [*dict.fromkeys(notes)]
                document["done"].append(_key(group))
                _save(document, resume)
        finally:
            for station in stations:
                station.end()
    return document


def _start(asked: Document, resume: Path | None) -> Document:
    """An empty document, or that in ``resume`` if it was started with the same options."""
    fresh: Document = {
        "machine": machine(), "asked": asked, "limits": [], "rows": [], "notes": [], "done": [],
    }  # fmt: skip
    if resume is None or not resume.exists():
        return fresh
    try:
        found: Document = parse_json(resume.read_text(encoding="utf-8"))
        same = all(found[key] == fresh[key] for key in ("asked", "machine"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LadderError(f"{resume}: not a run that was saved by --resume") from error
    if not same:
        raise LadderError(
            f"{resume}: started on another day or machine, or with other options; "
            "name another file, or remove it"
        )
    return found


def machine() -> Document:
    """The machine that the rows were measured on, and the date."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "date": date.today().isoformat(),
    }


def _stations(
    peers: Sequence[str], threads: int, settings: Settings, notes: list[str]
) -> list[Station]:
    """The engines that are installed; each other one becomes a note."""
    stations = []
    for name in (LIMITS, OWN, *peers):
        station = Station(name, threads, settings, notes)
        if "missing" not in station.hello:
            notes.extend(station.hello["notes"])
            stations.append(station)
            continue
        if "package" in station.hello:
            notes.append(
                f"{name} is not installed: pip install {station.hello['package']} "
                f"(all peers: pip install '.[peers]'; {station.hello['missing']})"
            )
        station.end()
    return stations


def _measure_group(
    group: Group,
    stations: Sequence[Station],
    own: Sequence[dict[str, str]],
    settings: Settings,
    document: Document,
    progress: tuple[int, int],
) -> None:
    done, groups = progress
    report("measure", done, groups * PARTS)
    kinds = []
    wanted = {LIMITS, *(kind["bits"] for kind in own)}
    for station in stations:
        offered = list(own) if own and station.name == OWN else station.kinds(group)
        kinds += [(station, kind) for kind in offered if not own or kind["bits"] in wanted]
    parts, cases = list(batches(kinds, settings)), list[Case]()
    for i, batch in enumerate(parts):

        def advance(part: float, i: int = i) -> None:
            report("measure", done + int(PARTS * (i + part) / len(parts)), groups * PARTS)

        cases += measure(group, batch, settings, advance)
    limits = [case for case in cases if case.station.name == LIMITS]
    document["limits"] += limit_rows(limits, group)
    document["rows"] += [product_row(case, group) for case in cases if case not in limits]


def _key(group: Group) -> list[Any]:
    return [group.threads, group.n, group.k, group.tokens]


def _save(document: Document, path: Path | None) -> None:
    if path is not None:
        with file_aside(path) as aside:
            aside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
