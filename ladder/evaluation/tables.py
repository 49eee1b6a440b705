"""Tables of a page: a title, columns, and rows of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NONE = "-"  # the text of a value that there is not


@dataclass(frozen=True)
class Cell:
    """A value as text, and the number that its column is sorted by."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Table:
    """``rows`` hold texts and numbers, as many in each as there are ``heads``."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows as they are shown."""
        return [[cell(value) for value in row] for row in self.rows]


def table(
    title: str, heads: Mapping[str, str] | Sequence[str], rows: Iterable[Mapping[str, Any]]
) -> Table:
    """A table of objects: ``heads`` are their keys, or the column names by key."""
    named = heads if isinstance(heads, Mapping) else {name: name for name in heads}
    return Table(title, list(named.values()), [[row.get(key) for key in named] for row in rows])


def cell(value: Any) -> Cell:
    """A value of JSON as a cell. Files may have been edited, so any value is shown."""
    if value is None:
        return Cell(NONE)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(", ".join(map(str, value)) if isinstance(value, list) else str(value))
    return Cell(f"{value:.4g}" if isinstance(value, float) else str(value), float(value))
