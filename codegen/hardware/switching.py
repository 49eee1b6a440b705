"""The power of a unit while it computes real data: gates are simulated, their changes counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ladder.codegen.hardware.emit import UNIT
from ladder.codegen.hardware.liberty import read_library
from ladder.codegen.hardware.power import energy_of, read_cells
from ladder.codegen.hardware.reference import I64
from ladder.codegen.hardware.simulate import latency
from ladder.codegen.hardware.streams import Stream
from ladder.codegen.hardware.synthesis import GATES, NETLIST, Netlist
from ladder.codegen.hardware.tools import LIBERTY, MODELS, run
from ladder.codegen.hardware.unit import Unit
from ladder.errors import LadderError

CHANGES, MOST_CYCLES = "changes.vcd", 4096


def power_of(netlist: Netlist, stream: Stream, want: I64) -> float:
    """Watts while the unit computes a stream, at the period of its netlist.

    The gates must compute ``want`` [N, M].

    Raises:
        LadderError: they compute something else.
    """
    folder = netlist.folder
    _simulate(netlist, stream)
    found = np.loadtxt(folder / "sums", dtype=np.int64).reshape(want.shape)
    if not np.array_equal(found, want):
        raise LadderError(f"{netlist.core.name}: the gates compute other sums than the reference")
    changes = counted(folder / CHANGES)
    (folder / CHANGES).unlink()
    span = (stream.cycles + latency(netlist.core)) * netlist.period_ns
    energy = energy_of(read_cells(folder / NETLIST), read_library(LIBERTY), changes, span)
    return energy.total / span * 1e-3  # a pJ in a ns is a mW


def _simulate(netlist: Netlist, stream: Stream) -> None:
    """Run the netlist in Icarus Verilog with the delays of its cells; it is compiled once."""
    folder, unit = netlist.folder, Unit(netlist.core)
    _write_inputs(folder, unit, netlist, stream)
    if not (folder / GATES).exists():
        (folder / "bench.v").write_text(_bench(unit, netlist))
        files = ["bench.v", NETLIST, MODELS]
        run(["iverilog", "-gspecify", "-o", GATES, "-s", "bench", *files], folder)
    run(["vvp", "-n", GATES, f"+cycles={stream.cycles + latency(netlist.core)}"], folder)


def _write_inputs(folder: Path, unit: Unit, netlist: Netlist, stream: Stream) -> None:
    """One line of hexadecimal digits for each cycle: all inputs, the first port lowest."""
    columns, widths = [], []
    total = stream.cycles + latency(netlist.core)
    x = stream.x.reshape(stream.cycles, -1)
    for index, signal in enumerate(s for row in unit.x for s in row):
        columns.append(_padded(x[:, index], 0, total))
        widths.append(len(signal))
    late = [*stream.weight.T, stream.start, stream.plane]
    for values, signal in zip(late, [*unit.weight, unit.start, unit.plane], strict=True):
        columns.append(_padded(values, 1, total))
        widths.append(len(signal))
    lines = []
    for row in zip(*columns, strict=True):
        word, place = 0, 0
        for value, width in zip(row, widths, strict=True):
            word |= (int(value) & (1 << width) - 1) << place
            place += width
        lines.append(f"{word:x}")
    (folder / "inputs").write_text("\n".join(lines) + "\n")


def _padded(values: I64, before: int, total: int) -> I64:
    """Values from cycle ``before`` on; the last one stays."""
    return np.pad(values, (before, max(0, total - before - len(values))), "edge")[:total]


def _bench(unit: Unit, netlist: Netlist) -> str:
    inputs = [s for row in unit.x for s in row] + [*unit.weight, unit.start, unit.plane]
    outputs = [s for column in unit.sums for s in column]
    width = sum(len(s) for s in inputs)
    wires = "\n".join(f"wire [{len(s) - 1}:0] {s.name};" for s in [*inputs, *outputs])
    names = ", ".join(s.name for s in reversed(inputs))
    ports = ", ".join(f".{s.name}({s.name})" for s in [*inputs, *outputs])
    shown = "\n".join(
        f'$fdisplay(file, "%0d", {f"$signed({s.name})" if s.shape().signed else s.name});'
        for s in outputs
    )
    half = netlist.period_ns / 2
    return f"""`timescale 1ns/10ps
module bench;
reg clk = 0, rst = 1;
reg [{width - 1}:0] now = 0;
reg [{width - 1}:0] all [0:{MOST_CYCLES - 1}];
{wires}
assign {{{names}}} = now;
{UNIT} unit(.clk(clk), .rst(rst), {ports});
integer cycle, cycles, file;
initial begin
  if (!$value$plusargs("cycles=%d", cycles)) $finish;
  $readmemh("inputs", all, 0, cycles - 1);
  repeat (2) begin #{half} clk = 1; #{half} clk = 0; end
  rst = 0;
  $dumpfile("{CHANGES}");
  $dumpvars(1, unit);
  for (cycle = 0; cycle < cycles; cycle = cycle + 1) begin
    now = all[cycle];
    #{half} clk = 1; #{half} clk = 0;
  end
  $dumpoff;
  file = $fopen("sums", "w");
{shown}
  $finish;
end
endmodule
"""


def counted(path: Path) -> dict[str, float]:
    """By bit of a signal of a VCD file: how often it changes."""
    signals: dict[str, _Signal] = {}
    with path.open() as lines:
        for line in lines:
            if line[0] in "01xz":
                signals[line[1:].strip()].becomes(line[0])
            elif line[0] == "b":
                value, code = line[1:].split()
                signals[code].becomes(value)
            elif line.startswith("$var"):
                words = line.split()
                signals.setdefault(words[3], _Signal(int(words[2]))).names.append(words[4])
    return {name: changes for signal in signals.values() for name, changes in signal.bits()}


class _Signal:
    """Counts the changes of the bits of one signal."""

    def __init__(self, width: int) -> None:
        self.names: list[str] = []
        self._value, self._changes = "x" * width, [0] * width

    def becomes(self, value: str) -> None:
        value = value.rjust(len(self._value), "0" if value[0] == "1" else value[0])
        for place, (before, after) in enumerate(zip(self._value, value, strict=True)):
            if before != after and after in "01" and before in "01":
                self._changes[place] += 1
        self._value = value

    def bits(self) -> Iterator[tuple[str, float]]:
        for name in self.names:
            if len(self._changes) == 1:
                yield name, self._changes[0]
            for place, changes in enumerate(reversed(self._changes)):
                yield f"{name}[{place}]", changes
