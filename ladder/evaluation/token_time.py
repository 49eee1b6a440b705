"""Where the time of a decoded token goes, as bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHOWN = 10  # kernels that have a bar of their own


@dataclass(frozen=True)
class Bar:
    """A kernel, its milliseconds, and its share of the token's time."""

    name: str
    milliseconds: float
    percent: float


def token_time(timed: Mapping[str, Any] | None) -> list[Bar]:
    """The kernels that take longest, then the rest as one; empty if nothing was measured."""
    rows = sorted((timed or {}).get("breakdown", {}).items(), key=lambda item: -item[1])
    total = sum(seconds for _, seconds in rows)
    if not total:
        return []
    rest = rows[SHOWN:]
    if rest:
        rows = [*rows[:SHOWN], (f"{len(rest)} other kernels", sum(s for _, s in rest))]
    return [Bar(name, 1e3 * seconds, 100 * seconds / total) for name, seconds in rows]
