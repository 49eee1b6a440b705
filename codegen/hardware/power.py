"""The energy of a netlist whose nets change so and so often, from its library of cells.

It is the sum over the nets of C V^2 / 2 for each change, over the pins of what the cells take
inside, and of leakage. Wires have no capacitance: there is no placement. OpenSTA finds the same for
nets and leakage. Inside of cells, version 2.0.17 counts the energies of rising and falling for each
change, and those of all related pins; here it is their mean. Its rates by pin have no effect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ladder.codegen.hardware.liberty import Cell, Library

CELL = re.compile(r"  ([A-Z]\w*) .* \($")
PIN = re.compile(r"    \.(\w+)\((.*)\),?$")
ALIAS = re.compile(r"  assign (.*) = (.*);$")


@dataclass
class Cells:
    """The cells of a netlist: (type, net by pin), and nets that are other names of nets."""

    cells: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)

    def net(self, name: str) -> str:
        while name in self.aliases:
            name = self.aliases[name]
        return name


def read_cells(netlist: Path) -> Cells:
    """The cells of a netlist that yosys wrote, one connection a line."""
    found = Cells()
    for line in netlist.read_text().splitlines():
        if begun := CELL.match(line):
            found.cells.append((begun[1], {}))
        elif pin := PIN.match(line):
            found.cells[-1][1][pin[1]] = _name(pin[2])
        elif alias := ALIAS.match(line):
            found.aliases[_name(alias[1])] = _name(alias[2])
    return found


def _name(text: str) -> str:
    return text.strip().lstrip("\\").replace(" ", "")


@dataclass(frozen=True)
class Energy:
    """pJ: to charge and discharge nets, inside of cells, and of leakage."""

    switching: float
    inside: float
    leakage: float

    @property
    def total(self) -> float:
        return self.switching + self.inside + self.leakage


def energy_of(
    cells: Cells, library: Library, changes: Mapping[str, float], nanoseconds: float
) -> Energy:
    """The energy of a time in which each net changes so often; other nets do not change."""
    loads = _loads(cells, library)
    rates = {net: changes.get(net, 0.0) for net in loads}
    kinds = [(library.cells[kind], pins) for kind, pins in cells.cells]
    leakage = sum(cell.leakage for cell, _ in kinds) * nanoseconds * 1e-6  # nW ns is 1e-6 pJ
    return Energy(
        sum(rates[net] * load for net, load in loads.items()) * library.volts**2 / 2,
        sum(_inside(cell, pins, cells, rates, loads) for cell, pins in kinds),
        leakage,
    )


def _loads(cells: Cells, library: Library) -> dict[str, float]:
    """pF of each net."""
    loads: dict[str, float] = {}
    for kind, pins in cells.cells:
        for pin, name in pins.items():
            net = cells.net(name)
            loads[net] = loads.get(net, 0.0) + library.cells[kind].pins[pin].capacitance
    return loads


def _inside(
    cell: Cell,
    pins: Mapping[str, str],
    cells: Cells,
    rates: Mapping[str, float],
    loads: Mapping[str, float],
) -> float:
    nets = {pin: cells.net(name) for pin, name in pins.items()}
    return sum(rates[net] * cell.pins[pin].energy(loads[net]) for pin, net in nets.items())
