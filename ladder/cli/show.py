"""What the commands print: JSON, tables, and progress with the time left."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ladder.passes.allocation.axes import AXES
from ladder.support.progress import listening

STAGE = "... "  # begins a line of progress where stderr is no terminal
WIDTH_OF_A_FILE = 120  # of tables that are written to a file or a pipe
out = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on stdout, with numbers aligned to the right."""
    table = Table(title=title or None, title_justify="left")
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(r[i], int | float) for r in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(c) for c in row))
    out.print(table)


def print_plan(plan: Mapping[str, Any]) -> None:
    """Print a plan's ``report``: what was asked, predicted and measured, and the uniform plans.

    The report may come from an edited file, so missing entries are left out.
    """
    asked, predicted, measured = plan["asked"], plan["predicted"], plan["measured"]
    metric = str(predicted.get("metric", "loss"))
    print_uniform(plan["uniform"], predicted, metric)
    for note in asked.get("notes", []):
        out.print(f"note: {note}")
    out.print(f"{asked.get('budget', 'a plan')}: least {asked.get('minimised', 'loss')}.")
    text = f"{metric.upper()} predicted {_cell(predicted.get('loss'))}"
    if metric in measured:
        text += f", measured {_cell(measured[metric])}"
    if "uniform" in measured:
        text += f"; {measured['uniform']} everywhere: {_cell(measured.get(f'uniform_{metric}'))}"
    if "seconds" in measured:
        times = [_cell(_scaled(row.get("seconds"), 1e3)) for row in (predicted, measured)]
        text += f"; ms a token predicted {times[0]}, measured {times[1]}"
    out.print(f"{text}.")
    if asked.get("verdict"):
        out.print(f"[bold]{asked['verdict']}[/bold]")


def print_uniform(
    uniform: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Any], metric: str
) -> None:
    """Print the uniform plans and the chosen one, if there is one, on the same axes."""
    rows = {**uniform, **({"this plan": chosen} if chosen else {})}
    print_sizes("Predicted", rows, metric.upper())


def print_sizes(title: str, rows: Mapping[str, Mapping[str, Any]], metric: str = "") -> None:
    """Print the totals of plans by name, on the axes that they have."""
    known = [axis for axis in AXES if any(axis.key in row for row in rows.values())]
    shown = {axis.key: axis.column for axis in known if axis.column}
    cells = [
        [name, *(_scaled(row.get(key), column.factor) for key, column in shown.items())]
        for name, row in rows.items()
    ]
    titles = [column.title or metric for column in shown.values()]
    print_table(title, ["plan", *titles], cells)


def _scaled(value: Any, factor: float) -> Any:
    return value * factor if isinstance(value, int | float) else value


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


@contextmanager
def progress() -> Iterator[None]:
    """Show reported progress on stderr: bars with the time left, or a line a stage in a file."""
    with _bars() if err.is_terminal else _lines():
        yield


@contextmanager
def _lines() -> Iterator[None]:
    """A line when a stage begins, for logs."""
    begun: set[str] = set()

    def listener(what: str, done: int, total: int) -> None:
        if what not in begun:
            begun.add(what)
            count = f" ({total})" if total > 1 else ""
            print(f"{STAGE}{what}{count}", file=sys.stderr, flush=True)

    with listening(listener):
        yield


@contextmanager
def _bars() -> Iterator[None]:
    """A bar for each stage. All of them end with the work, whatever was last reported."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bars:
        tasks: dict[str, TaskID] = {}

        def listener(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total or None)
            bars.update(tasks[what], completed=done, total=total or None)

        with listening(listener):
            yield
        for task in bars.tasks:
            bars.update(task.id, total=task.total or 1, completed=task.total or 1)


def mega(size: float) -> str:
    """Bytes as text in MB."""
    return f"{size / 1e6:.1f} MB"
