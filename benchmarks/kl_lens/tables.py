"""The measurements as Markdown, in the form of KL Lens' table 4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.kl_lens.measure import THREADS

MEASURES = {"kl": "KL", "reverse_kl": "reverse KL", "sqnr": "SQNR", "mse": "MSE"}
MOST = 5  # sites that are named
Row = dict[str, Any]


def plan_table(rows: Iterable[Row]) -> Iterator[str]:
    """One line for each plan."""
    speeds = [f"tokens a second, {n} thread{'s' * (n > 1)}" for n in THREADS]
    yield from _head("plan", "perplexity", "KL", "MB", "bits per weight", *speeds)
    for row in rows:
        yield _line(_cells(row))


def _cells(row: Row) -> Iterator[str]:
    yield from (row["plan"], f"{row['perplexity']:.3f}")
    yield "" if row["kl"] is None else f"{row['kl']:.5f}"
    yield from (f"{row['bytes'] / 1e6:.2f}", f"{row['bpw']:.3f}")
    yield from (f"{row[str(n)]:.0f}" if str(n) in row else "" for n in THREADS)


def tau_table(rows: Iterable[Row]) -> Iterator[str]:
    """One line for each type of a model."""
    yield from _head("model", "type", "sites", *MEASURES.values(), "two halves of the text")
    for row in rows:
        taus = [f"{row['tau'][name]:.3f}" for name in MEASURES]
        cells = [row["model"], f"`{row['type']}`", str(row["sites"])]
        yield _line([*cells, *taus, f"{row['halves']:.3f}"])


def most_sensitive(row: Row) -> str:
    """The sites whose rounding changes the perplexity most."""
    changes = sorted(row["changes"].items(), key=lambda item: -item[1])[:MOST]
    named = ", ".join(f"`{name}` {change:.4f}" for name, change in changes)
    return f"{row['model']}, `{row['type']}`, nats per token: {named}."


def _head(*names: str) -> Iterator[str]:
    yield _line(names)
    yield f"|{'---|' * len(names)}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
