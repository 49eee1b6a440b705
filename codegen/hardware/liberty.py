"""What a library of cells says about energy: capacitances, leakage, and energies of transitions.

The file is in the Liberty format: groups ``name (arguments) { ... }`` that hold groups and
attributes. Energies are in pJ, capacitances in pF, times in ns, leakage in nW.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
SLEW = 0.2  # ns: a typical time of a transition in this technology
UNITS = {"time_unit": "1ns", "voltage_unit": "1V", "leakage_power_unit": "1nW"}
TOKEN = re.compile(r'"[^"]*"|[{}();:,]|[^\s{}();:,"]+')
COMMENT = re.compile(r"/\*.*?\*/|\\\n", re.DOTALL)


@dataclass
class Group:
    """A group of the file."""

    kind: str
    arguments: list[str]
    values: dict[str, list[str]] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    def of(self, *kinds: str) -> Iterator[Group]:
        return (group for group in self.groups if group.kind in kinds)

    def number(self, name: str, default: float = 0.0) -> float:
        return float(self.values[name][0]) if name in self.values else default

    def numbers(self, name: str) -> list[float]:
        return [float(part) for text in self.values[name] for part in text.split(",")]


@dataclass(frozen=True)
class Energy:
    """pJ of a transition by load (pF) at a typical slew, without what charges the load."""

    loads: F64
    energies: F64

    def at(self, load: float) -> float:
        return float(np.interp(load, self.loads, self.energies))


@dataclass(frozen=True)
class Pin:
    """``energies`` has one for each related pin, or none."""

    output: bool
    capacitance: float
    energies: tuple[Energy, ...]

    def energy(self, load: float = 0.0) -> float:
        """pJ inside the cell of a transition of this pin."""
        return sum(e.at(load) for e in self.energies) / max(1, len(self.energies))


@dataclass(frozen=True)
class Cell:
    pins: dict[str, Pin]
    leakage: float


@dataclass(frozen=True)
class Library:
    volts: float
    cells: dict[str, Cell]


@cache
def read_library(path: Path) -> Library:
    """The cells of a Liberty file.

    Raises:
        ValueError: it counts in other units.
    """
    root = _parse(path.read_text())
    for name, unit in UNITS.items():
        if root.values[name] != [unit]:
            raise ValueError(f"{path}: {name} is {root.values[name][0]}, not {unit}")
    cells = {cell.arguments[0]: _cell(cell) for cell in root.of("cell")}
    return Library(root.number("nom_voltage"), cells)


def _cell(cell: Group) -> Cell:
    pins = {pin.arguments[0]: _pin(pin) for pin in cell.of("pin")}
    return Cell(pins, cell.number("cell_leakage_power"))


def _pin(pin: Group) -> Pin:
    energies = tuple(_energy(power) for power in pin.of("internal_power"))
    return Pin(pin.values["direction"] == ["output"], pin.number("capacitance"), energies)


def _energy(power: Group) -> Energy:
    """The mean of rising and falling."""
    tables = [_at_slew(table) for table in power.of("rise_power", "fall_power", "power")]
    return Energy(tables[0].loads, np.mean([table.energies for table in tables], axis=0))


def _at_slew(table: Group) -> Energy:
    """A table of loads and slews, or of slews only, at the typical slew."""
    first, values = np.array(table.numbers("index_1")), np.array(table.numbers("values"))
    if "index_2" not in table.values:
        return Energy(np.zeros(1), np.array([np.interp(SLEW, first, values)]))
    slews = table.numbers("index_2")
    rows = values.reshape(len(first), len(slews))
    return Energy(first, np.array([np.interp(SLEW, slews, row) for row in rows]))


def _parse(text: str) -> Group:
    tokens = TOKEN.findall(COMMENT.sub(" ", text))
    root = Group("", [])
    open_groups, place = [root], 0
    while place < len(tokens):
        if tokens[place] == "}":
            open_groups.pop()
        elif tokens[place] != ";":
            place = _statement(tokens, place, open_groups)
        place += 1
    return root.groups[0]


def _statement(tokens: list[str], place: int, open_groups: list[Group]) -> int:
    """Read an attribute or the head of a group; the place of its last token."""
    name = tokens[place]
    if tokens[place + 1] == ":":
        open_groups[-1].values[name] = [tokens[place + 2].strip('"')]
        return place + 2
    end = tokens.index(")", place)
    arguments = [token.strip('"') for token in tokens[place + 2 : end] if token != ","]
    if tokens[end + 1] != "{":
        open_groups[-1].values[name] = arguments
        return end
    group = Group(name, arguments)
    open_groups[-1].groups.append(group)
    open_groups.append(group)
    return end + 1
