"""Writes the dated comparison in docs/results/performance.md, between two marks."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ladder.peers import OWN
from ladder.peers.engine import CLASSES
from ladder.peers.table import (
    Key,
    Row,
    fastest_peer,
    key_of,
    limit_text,
    limits_at,
    share_of_reads,
)
from ladder.support.marks import around_marks, write_between_marks

TABLES = "peers"  # the name of the marks
Columns = list[tuple[str, Key]]
Cell = Callable[[Row, Sequence[Row]], str]


def check_page(page: Path) -> None:
    """Refuse a page that has no place for the tables, before anything is measured."""
    around_marks(page, TABLES)


def write_page(page: Path, document: Row, command: str) -> None:
    """Put the tables of ``document`` between the marks of ``page``."""
    write_between_marks(page, TABLES, _lines(document, command))


def _lines(document: Row, command: str) -> Iterable[str]:
    machine, rows = document["machine"], document["rows"]
    versions = {row["engine"]: f"{row['engine']} {row['version']}" for row in rows}
    asked = document["asked"]
    yield from ("<!-- not run: minutes -->", "```bash", command, "```")
    yield ""
    yield (
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GB, {machine['system']}. {', '.join(versions.values())}. "
        f"Medians of up to {asked['rounds']} rounds of {asked['seconds']:g} s; {_noise(rows)}."
    )
    for title, columns in _column_sets(rows):
        yield from ("", f"### {title}", "")
        yield from _limits(document, columns)
        yield from ("", "Milliseconds per product; the fastest of each class of bits in bold:", "")
        yield from _table(rows, columns, _times)
        yield from (
            "",
            "Speed of Ladder relative to the fastest peer of the class, and that peer:",
            "",
        )
        yield from _table([row for row in rows if row["engine"] == OWN], columns, _ratios(document))
    for note in document["notes"]:
        yield from ("", f"Note: {note}.")


def _noise(rows: Sequence[Row]) -> str:
    spreads = [row["spread"] / row["median_s"] for row in rows]
    middle, most = statistics.median(spreads), max(spreads)
    return f"the rounds of a product differ by {middle:.0%} (median of all; at most {most:.0%})"


def _column_sets(rows: Sequence[Row]) -> Iterable[tuple[str, Columns]]:
    """For each number of threads: one token over all weights, then all M over each weight."""
    keys = list(dict.fromkeys(key_of(row) for row in rows))
    for threads in dict.fromkeys(key[0] for key in keys):
        here = [key for key in keys if key[0] == threads]
        count = "1 thread" if threads == 1 else f"{threads} threads"
        ones = [(f"{n}x{k}", (t, m, n, k)) for t, m, n, k in here if m == 1]
        if ones:
            yield f"One token, {count}", ones
        for n, k in dict.fromkeys(key[2:] for key in here):
            more = sorted(key for key in here if key[2:] == (n, k) and key[1] > 1)
            if more:
                yield f"More tokens, {n}x{k}, {count}", [(f"M={key[1]}", key) for key in more]


def _limits(document: Row, columns: Columns) -> Iterable[str]:
    """The machine's limits over the columns' weights, each named once."""
    by_weight = {key[2:]: limits_at(document, key) for _, key in columns}
    for name in dict.fromkeys(name for limits in by_weight.values() for name in limits):
        values = [limits[name] for limits in by_weight.values() if name in limits]
        low, high = (limit_text(name, v) for v in (min(values), max(values)))
        yield f"- {name}: {low}" + (f" to {high}" if len(values) > 1 else "")


def _table(rows: Sequence[Row], columns: Columns, cell: Cell) -> Iterable[str]:
    """One line for each form of a weight, by class of bits, then in the order of the document."""
    heads = ["bits", "engine", "type", "bits per weight", "computed by", *(c for c, _ in columns)]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    wanted = {key for _, key in columns}
    shown = [row for row in rows if key_of(row) in wanted]
    forms: dict[tuple[str, ...], dict[Key, Row]] = {}
    for row in sorted(shown, key=lambda row: CLASSES.index(row["bits"])):
        name = (row["bits"], row["engine"], row["type"], row["form"])
        forms.setdefault(name, {})[key_of(row)] = row
    for (bits, engine, type, _), found in forms.items():
        bpw = dict.fromkeys(f"{row['bits_per_weight']:.3f}" for row in found.values())
        by = dict.fromkeys(row["scheme"] for row in found.values())
        cells = [cell(found[key], shown) if key in found else "" for _, key in columns]
        line = [bits, engine, f"`{type}`", " to ".join(bpw), "; ".join(by), *cells]
        yield f"| {' | '.join(line)} |"


def _times(row: Row, shown: Sequence[Row]) -> str:
    text = f"{1e3 * row['median_s']:.2f}"
    same = [r for r in shown if key_of(r) == key_of(row) and r["bits"] == row["bits"]]
    return f"**{text}**" if row is min(same, key=lambda r: float(r["median_s"])) else text


def _ratios(document: Row) -> Cell:
    def cell(row: Row, _: Sequence[Row]) -> str:
        peer = fastest_peer(row, document["rows"])
        parts = []
        if peer is not None:
            parts.append(f"{peer['median_s'] / row['median_s']:.2f} {peer['engine']}")
        share = share_of_reads(row, limits_at(document, key_of(row)))
        if row["m"] == 1 and share is not None:
            parts.append(f"{share:.0%} of reads")
        return ", ".join(parts)

    return cell
