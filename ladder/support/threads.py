"""The number of threads to use."""

from __future__ import annotations

import os

from ladder.errors import LadderError

MOST_THREADS = 1024


def own_threads() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(name: str, threads: int) -> None:
    """Refuse a number of threads that no processor has; ``name`` is where it was given."""
    if not 0 <= threads <= MOST_THREADS:
        raise LadderError(
            f"{name} {threads}: give a number up to {MOST_THREADS}, or 0 for all cores"
        )
