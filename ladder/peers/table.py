"""Rows of a comparison as tables: on a terminal and in docs/results/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ladder.peers import OWN
from ladder.peers.engine import CLASSES
from ladder.peers.limits import INTEGER, MATRIX, READ

Row = dict[str, Any]
Key = tuple[int, int, int, int]  # threads, M, N, K

COLUMNS = (
    "bits", "engine", "type", "bpw", "computed by", "ms", "spread",
    "error", "x peer", "reads", "peak",
)  # fmt: skip


def key_of(row: Row) -> Key:
    """The key of a table: what its rows have in common."""
    return row["threads"], row["m"], row["n"], row["k"]


def tables(document: Row) -> Iterable[tuple[str, list[list[Any]]]]:
    """(title, rows of cells for COLUMNS) for each (M, N, K, threads): by bits, then by time."""
    for key in dict.fromkeys(key_of(row) for row in document["rows"]):
        rows = sorted(
            (row for row in document["rows"] if key_of(row) == key),
            key=lambda row: (CLASSES.index(row["bits"]), row["median_s"]),
        )
        limits = limits_at(document, key)
        yield title_of(key, limits), [_cells(row, rows, limits) for row in rows]


def limits_at(document: Row, key: Key) -> dict[str, float]:
    """The limits that were measured in the same rounds, by name."""
    threads, _, n, k = key
    return {
        limit["name"]: limit["median"]
        for limit in document["limits"]
        if limit["threads"] == threads and limit["weight"] == [n, k]
    }


def title_of(key: Key, limits: dict[str, float]) -> str:
    """Shape, threads and limits in one line."""
    threads, m, n, k = key
    shown = [f"{name} {limit_text(name, value)}" for name, value in limits.items()]
    count = "1 thread" if threads == 1 else f"{threads} threads"
    return f"M={m}, {n}x{k}, {count}; limits in the same rounds: {', '.join(shown)}"


def limit_text(name: str, value: float) -> str:
    return f"{value / 1e9:.1f} GB/s" if name == READ else f"{value / 1e9:.0f} Gop/s"


def fastest_peer(row: Row, rows: Sequence[Row]) -> Row | None:
    """The fastest row of an engine other than Ladder, with the same class of bits and shape."""
    others = [
        other
        for other in rows
        if other["engine"] != OWN and other["bits"] == row["bits"] and key_of(other) == key_of(row)
    ]
    return min(others, key=lambda other: float(other["median_s"]), default=None)


def speed_up(row: Row, rows: Sequence[Row]) -> float | None:
    """The speed relative to the fastest peer of the same class; None if it has no peer."""
    peer = fastest_peer(row, rows)
    return peer["median_s"] / row["median_s"] if peer else None


def share_of_reads(row: Row, limits: dict[str, float]) -> float | None:
    """Weight bytes per second, scales included, as a share of the machine's reads."""
    rate = row["bits_per_weight"] / 8 * row["n"] * row["k"] / row["median_s"]
    return rate / limits[READ] if READ in limits else None


def share_of_peak(row: Row, limits: dict[str, float]) -> float | None:
    """Operations per second as a share of the machine's integer peak (of AMX if it has it)."""
    peak = limits.get(MATRIX, limits.get(INTEGER))
    operations = 2.0 * row["m"] * row["n"] * row["k"]
    return operations / row["median_s"] / peak if peak else None


def _cells(row: Row, rows: Sequence[Row], limits: dict[str, float]) -> list[Any]:
    ratio = speed_up(row, rows)
    return [
        row["bits"],
        row["engine"],
        row["type"],
        f"{row['bits_per_weight']:.3f}",
        row["scheme"],
        f"{1e3 * row['median_s']:.3f}",
        f"{row['spread'] / row['median_s']:.0%}",
        f"{row['error']:.1e}",
        "" if ratio is None else f"{ratio:.2f}",
        _percent(share_of_reads(row, limits)),
        _percent(share_of_peak(row, limits)),
    ]


def legend(document: Row) -> list[str]:
    """The meaning of the tables' columns, and the engines, one line each."""
    engines = {row["engine"]: (row["version"], row["isa"]) for row in document["rows"]}
    lines = [f"{name} {version} {isa}".strip() for name, (version, isa) in engines.items()]
    return [
        "; ".join(lines),
        "bpw: bits per weight with scales. spread: slowest minus fastest round. error: "
        "|y - x w| / |x w| in float64, w as the engine itself stores it. x peer: speed relative to "
        "the fastest other engine of the same bits. reads: weight bytes per second as a share of "
        "the cold read rate. peak: operations per second as a share of the integer peak.",
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
