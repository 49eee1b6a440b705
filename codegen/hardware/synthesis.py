"""From a unit to gates: area by yosys, the longest path by OpenSTA.

Columns are mapped once and then placed N times, as a chip would repeat them; tables and broadcasts
are counted. Wires are not: there is no placement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ladder.codegen.hardware.emit import UNIT, verilog_of
from ladder.codegen.hardware.tools import LIBERTY, check_tools, run
from ladder.codegen.hardware.unit import BUFFER
from ladder.errors import LadderError
from ladder.hardware.tensor_cores import PERIOD, TensorCore

DRIVER, LOAD = "DFFPOSX1", 0.05  # what drives inputs, and the load of outputs in pF
BUFFER_CELL = f"module {BUFFER}(input a, output y); BUFX4 cell(.A(a), .Y(y)); endmodule\n"
NETLIST, GATES = "netlist.v", "gates"  # mapped, and compiled for simulation


@dataclass(frozen=True)
class Netlist:
    """A mapped unit: its file, its area in square micrometres, its cells and its longest path."""

    core: TensorCore
    folder: Path
    area: float
    cells: int
    path_ns: float
    period_ns: float

    @property
    def meets_timing(self) -> bool:
        return self.path_ns <= self.period_ns


def synthesise(core: TensorCore, folder: Path, period: float = PERIOD) -> Netlist:
    """Map a unit to cells; the netlist is written to ``folder``.

    Raises:
        LadderError: a tool is missing or fails.
    """
    check_tools()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GATES).unlink(missing_ok=True)
    (folder / "unit.v").write_text(verilog_of(core))
    (folder / "buffer.v").write_text(BUFFER_CELL)
    constraints = f"set_driving_cell {DRIVER}\nset_load {LOAD} [all_outputs]\n"
    (folder / "constraints").write_text(constraints)
    (folder / "synthesis.ys").write_text(_script(period))
    run(["yosys", "-q", "-s", "synthesis.ys"], folder)
    statistics = (folder / "statistics").read_text()
    area = _number(r"Chip area for module '\\unit': ([\d.]+)", statistics)
    cells = _number(r"Number of cells: +(\d+)", statistics)
    report = static_timing(folder, period, ["report_checks"])
    return Netlist(
        core, folder, area, int(cells), _number(r"([\d.]+) +data arrival", report), period
    )


def _script(period: float) -> str:
    return f"""
read_verilog unit.v
hierarchy -top {UNIT}
proc
check -assert
blackbox {BUFFER}
synth -top {UNIT}
dfflibmap -liberty {LIBERTY}
abc -liberty {LIBERTY} -D {period * 1000:.0f} -constr constraints
opt_clean
techmap -map buffer.v
flatten
opt_clean
splitnets
opt_clean -purge
tee -o statistics stat -liberty {LIBERTY}
write_verilog -noattr {NETLIST}
"""


def static_timing(folder: Path, period: float, commands: list[str]) -> str:
    """What OpenSTA prints for commands about the netlist of a folder."""
    lines = [
        f"read_liberty {LIBERTY}",
        f"read_verilog {NETLIST}",
        f"link_design {UNIT}",
        f"create_clock -period {period} clk",
        # A driven clock would have one cell for all registers: a real one has a tree.
        'foreach port [all_inputs] {if {[get_name $port] ne "clk"} {lappend data $port}}',
        "set_input_delay -clock clk 0 $data",
        f"set_driving_cell -lib_cell {DRIVER} $data",
        *commands,
    ]
    script = folder / "timing.tcl"
    script.write_text("\n".join(lines) + "\nexit\n")
    return run(["sta", "-no_splash", "-exit", script.name], folder)


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise LadderError(
            f"the synthesis tools print nothing like '{pattern}'; is another version installed?"
        )
    return float(found[1])
