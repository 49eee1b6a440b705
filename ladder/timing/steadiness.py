"""Whether times can be believed: a machine that does other work shows in CPU time and in spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# The least CPU time of this process as a part of the wall time, and the largest difference of
# repeats as a part of their median, of times that are believed.
CPU_SHARE, SPREAD = 0.85, 0.3
TRIES = 2  # to time something while nothing else runs


@dataclass(frozen=True)
class Timed:
    """The seconds of one call in several rounds; ``cpu`` is CPU time over wall time meanwhile."""

    rounds: tuple[float, ...]
    cpu: float = 1.0

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def range(self) -> float:
        """The largest minus the smallest round, in seconds."""
        return max(self.rounds) - min(self.rounds)

    @property
    def spread(self) -> float:
        """The range as a part of the median."""
        return self.range / self.median

    @property
    def steady(self) -> bool:
        """Whether the machine did nothing else, as far as can be seen."""
        return self.cpu >= CPU_SHARE and self.spread <= SPREAD


def timed_calls(call: Callable[[Any], Any], sets: list[Any], seconds: float, rounds: int) -> Timed:
    """Time rounds of calls with the weight sets in turn, after one call that is not timed.

    A call longer than a round is one round.
    """
    call(sets[0])
    times = []
    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        start, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - start < seconds:
            call(sets[done % len(sets)])
            done += 1
        times.append((time.perf_counter() - start) / done)
    wall = time.perf_counter() - begin
    return Timed(tuple(times), (time.process_time() - cpu) / wall)


def steadiest(measure: Callable[[], Timed]) -> Timed:
    """The first steady measurement, or of several that are not the one with the least spread."""
    tried: list[Timed] = []
    for _ in range(TRIES):
        tried.append(measure())
        if tried[-1].steady:
            return tried[-1]
    return min(tried, key=lambda timed: timed.spread)


def busy_note(unsteady: int, of: int, again: str) -> str:
    """What a report says of times that are not believed; empty if there are none."""
    if not unsteady:
        return ""
    return (
        f"{unsteady} of {of} times were taken while the machine was busy and are not kept; "
        f"when it is quiet, {again}"
    )
