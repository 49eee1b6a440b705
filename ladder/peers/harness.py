"""Engines run in separate processes and take turns: round by round, one product after the other.

The weights of all engines are in memory together, as far as they fit. Every round times each
product once, and the machine's limits too, so that other load affects all of them equally.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psutil

from ladder.peers.engine import CLASSES, LIMITS
from ladder.peers.process import EngineDied, EngineFailed, EngineProcess
from ladder.timing.rotation import ROTATED_BYTES

Shape = tuple[int, int, int]  # M, N, K
Row = dict[str, Any]
SHARE_OF_MEMORY = 0.7  # that weights may take
BYTES_OVERHEAD = 1.2  # engines keep part of a weight twice
LEAST_ROUNDS, ENOUGH_SECONDS = 3, 3.0  # enough for a slow product
IDLE_SECONDS = 0.005  # between turns, so that spinning threads go to sleep


@dataclass(frozen=True)
class Settings:
    """The settings of a run: ``rounds`` turns of ``seconds`` each; bytes to rotate."""

    rounds: int = 5
    seconds: float = 0.1
    rotate: float = ROTATED_BYTES


@dataclass
class Case:
    """One product of one engine at one M, and the seconds of its rounds."""

    station: Station
    id: int
    kind: dict[str, str]
    m: int
    row: Row
    times: list[float] = field(default_factory=list)
    spent: float = 0.0  # seconds of its turns
    lost: bool = False

    def done(self) -> bool:
        return self.lost or (len(self.times) >= LEAST_ROUNDS and self.spent > ENOUGH_SECONDS)


@dataclass
class Group:
    """Products that share a weight's shape and the number of threads."""

    threads: int
    n: int
    k: int
    tokens: list[int]

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.n}x{self.k}, {threads}"


class Station:
    """An engine's process; if it dies, it is started again with its weights."""

    def __init__(self, name: str, threads: int, settings: Settings, notes: list[str]) -> None:
        self.name, self.threads = name, threads
        self._settings, self._notes = settings, notes
        self._kinds: dict[int, dict[str, str]] = {}
        self.cases: list[Case] = []
        self._process = EngineProcess(name, threads)
        self.hello: Row = self._ask_or_note("hello") or {"missing": "it could not be started"}

    def kinds(self, group: Group) -> list[dict[str, str]]:
        reply = self._ask_or_note("kinds", n=group.n, k=group.k)
        return list(reply["kinds"]) if reply else []

    def prepare(self, group: Group, kinds: dict[int, dict[str, str]]) -> None:
        """Prepare weights of ``kinds``; a failure becomes a note, and the others continue."""
        for id, kind in kinds.items():
            reply = self._prepared(group, id, kind)
            if reply is None:
                continue
            self._kinds[id] = kind
            tokens = group.tokens[:1] if self.name == LIMITS else group.tokens
            for i, m in enumerate(tokens):
                row = {key: v[i] if isinstance(v, list) else v for key, v in reply.items()}
                self.cases.append(Case(self, id, kind, m, row))

    def turn(self, case: Case, group: Group) -> None:
        """Run one round of a case; one that fails or kills the process is lost, with a note."""
        start = time.monotonic()
        try:
            seconds = self._settings.seconds
            reply = self._process.ask("turn", id=case.id, m=case.m, seconds=seconds)
            case.times.append(reply["seconds"])
            case.spent += time.monotonic() - start
        except EngineFailed as error:
            self._lose(case.id, group, f"{error}")
        except EngineDied as error:
            self._lose(case.id, group, f"{error}")
            self._restart(group)

    def drop(self) -> None:
        self._kinds, self.cases = {}, []
        self._ask_or_note("drop")

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> None:
        self._process.end()

    def _lose(self, id: int, group: Group, why: str) -> None:
        kind = self._kinds.pop(id)
        for case in self.cases:
            case.lost = case.lost or case.id == id
        self._notes.append(f"{self.name} {kind['type']} ({kind['scheme']}), {group}: {why}")

    def _prepared(self, group: Group, id: int, kind: dict[str, str]) -> Row | None:
        words = {"n": group.n, "k": group.k, "tokens": group.tokens}
        try:
            return self._process.ask(
                "prepare", id=id, kind=kind, rotate=self._settings.rotate, **words
            )
        except EngineFailed as error:
            why = str(error)
        except EngineDied as error:
            why = str(error)
            self._restart(group)
        self._notes.append(f"{self.name} {kind['type']} ({kind['scheme']}), {group}: {why}")
        return None

    def _restart(self, group: Group) -> None:
        """Start a new process with the same weights, except those that were lost."""
        self._process.end()
        self._process = EngineProcess(self.name, self.threads)
        self._ask_or_note("hello")
        for id, kind in list(self._kinds.items()):
            if self._prepared(group, id, kind) is None:
                self._kinds.pop(id, None)
                for case in self.cases:
                    case.lost = case.lost or case.id == id

    def _ask_or_note(self, do: str, **words: Any) -> Row | None:
        try:
            return self._process.ask(do, **words)
        except (EngineDied, EngineFailed) as error:
            self._notes.append(f"{self.name}: {error}")
            return None


def groups_of(shapes: Sequence[Shape], threads: Sequence[int]) -> list[Group]:
    """Shapes grouped by weight and number of threads."""
    tokens: dict[tuple[int, int], list[int]] = {}
    for m, n, k in shapes:
        found = tokens.setdefault((n, k), [])
        found += [m] if m not in found else []
    return [Group(t, n, k, ms) for t in dict.fromkeys(threads) for (n, k), ms in tokens.items()]


def batches(
    kinds: list[tuple[Station, dict[str, str]]], settings: Settings
) -> Iterator[list[tuple[Station, dict[str, str]]]]:
    """Kinds whose weights fit in memory together; a class of bits is not split if it fits."""
    room = psutil.virtual_memory().available * SHARE_OF_MEMORY
    most = max(1, int(room / (settings.rotate * BYTES_OVERHEAD)))
    limits = [pair for pair in kinds if pair[1]["bits"] == LIMITS]
    batch: list[tuple[Station, dict[str, str]]] = []
    for bits in CLASSES:
        of_class = [pair for pair in kinds if pair[1]["bits"] == bits]
        if batch and len(batch) + len(of_class) > most:
            yield limits + batch
            batch = []
        batch = batch + of_class
    if batch:
        yield limits + batch


def measure(
    group: Group,
    batch: Sequence[tuple[Station, dict[str, str]]],
    settings: Settings,
    advance: Callable[[float], None],
) -> list[Case]:
    """Run all rounds of a batch; returns its cases with times. ``advance`` gets the share done."""
    by_station: dict[Station, dict[int, dict[str, str]]] = {}
    for id, (station, kind) in enumerate(batch):
        by_station.setdefault(station, {})[id] = kind
    with ThreadPoolExecutor(len(by_station)) as pool:  # in parallel, because only turns are timed
        list(pool.map(lambda pair: pair[0].prepare(group, pair[1]), by_station.items()))
    cases = sorted((c for s in by_station for c in s.cases), key=lambda c: (c.m, c.id))
    turns = max(1, len(cases) * settings.rounds)
    for round in range(settings.rounds):
        for i, case in enumerate(cases[::-1] if round % 2 else cases):
            if not case.done():
                time.sleep(IDLE_SECONDS)
                case.station.turn(case, group)
            advance((round * len(cases) + i + 1) / turns)
    for station in by_station:
        station.drop()
    return [case for case in cases if case.times and not case.lost]


def limit_rows(cases: Sequence[Case], group: Group) -> list[Row]:
    """The limits of a group, each once for all its batches, in its own unit."""
    by_name: dict[str, list[Case]] = {}
    for case in cases:
        by_name.setdefault(case.kind["type"], []).append(case)
    return [_limit_row(same, group) for same in by_name.values()]


def _limit_row(cases: Sequence[Case], group: Group) -> Row:
    rates = [case.row["work"] / seconds for case in cases for seconds in case.times]
    return {
        "name": cases[0].kind["type"],
        "unit": cases[0].kind["scheme"],
        "what": cases[0].row["schemes"],
        "threads": group.threads,
        "weight": [group.n, group.k],
        "median": statistics.median(rates),
        "spread": max(rates) - min(rates),
    }


def product_row(case: Case, group: Group) -> Row:
    """The row of a product in the document."""
    hello, kind, n, k = case.station.hello, case.kind, group.n, group.k
    stored, products = case.row["stored_bytes"], case.row["products"]
    return {
        "engine": case.station.name,
        "version": hello["version"],
        "type": kind["type"],
        "bits": kind["bits"],
        "bits_per_weight": 8 * stored / (n * k),
        "form": kind["scheme"],
        "scheme": case.row["schemes"] or kind["scheme"],
        "isa": hello["isa"],
        "m": case.m,
        "n": n,
        "k": k,
        "threads": group.threads,
        "median_s": statistics.median(case.times),
        "spread": max(case.times) - min(case.times),
        "error": case.row["errors"],
        "rounds": len(case.times),
        "rotated_bytes": stored * products,
    }
