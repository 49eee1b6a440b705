"""Sites by layer and role: where a heat map has them, and their losses by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# The first number between separators of a site's name is that of its layer.
LAYER = re.compile(r"^(?:.*?[./_])?(\d+)(?=[./_])")
OUTSIDE = ""  # the layer of sites whose names have no number

Row = Mapping[str, Any]


@dataclass
class Layers:
    """The layers in their order, with a label each, and the sites in them by role."""

    labels: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    cells: dict[tuple[int, str], list[Row]] = field(default_factory=dict)

    def sites(self, layer: int) -> list[Row]:
        """The sites of one layer."""
        return [row for (at, _), rows in self.cells.items() if at == layer for row in rows]


def layers_of(sites: Sequence[Row]) -> Layers:
    """The layers of a report's sites. Sites outside of layers fill columns of their own."""
    found, columns = Layers(), dict[tuple[str, int], int]()
    outside: dict[str, int] = {}
    names = [layer_name(row["name"]) for row in sites]
    short = len({name[: name.rfind(number)] for name, number in names if name}) <= 1
    for (name, number), row in zip(names, sites, strict=True):
        turn = 0
        if name == OUTSIDE:
            turn = outside[row["role"]] = outside.get(row["role"], -1) + 1
        if (name, turn) not in columns:
            columns[name, turn] = len(columns)
            found.labels.append((number if short else name) if name else "·")
        if row["role"] not in found.roles:
            found.roles.append(row["role"])
        found.cells.setdefault((columns[name, turn], row["role"]), []).append(row)
    return found


def layer_name(site: str) -> tuple[str, str]:
    """The part of a site's name that names its layer, and the layer's number: model.layers.3, 3."""
    match = LAYER.match(site)
    return (match.group(0), match.group(1)) if match else (OUTSIDE, "")
