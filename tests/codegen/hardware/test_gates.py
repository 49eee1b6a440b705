"""Units as Verilog and as gates: what the tools say of them, and their energy."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ladder.codegen.hardware import tools
from ladder.codegen.hardware.emit import UNIT, WAIVED, verilog_of
from ladder.codegen.hardware.liberty import read_library
from ladder.codegen.hardware.measure import measure
from ladder.codegen.hardware.power import energy_of, read_cells
from ladder.codegen.hardware.stepping import accumulated
from ladder.codegen.hardware.switching import counted, power_of
from ladder.codegen.hardware.synthesis import NETLIST, Netlist, static_timing, synthesise
from ladder.codegen.hardware.tools import LIBERTY
from ladder.codegen.hardware.workloads import activations, codes_of, gaussian
from ladder.errors import LadderError
from ladder.hardware.tensor_cores import PERIOD, PRESETS, tensor_core

pytestmark = pytest.mark.hardware
# What is left to say of Amaranth's Verilog: an operand is narrower than the result.
WIDENED = re.compile(r"Operator \w+ expects (\d+) bits on the [LR]HS, but .* generates (\d+) bits")
ANY_BIT = "Logical operator LOGNOT expects 1 bit"  # Verilog's ! asks whether no bit is set


@pytest.fixture(scope="module")
def netlist(tmp_path_factory: pytest.TempPathFactory) -> Netlist:
    """A look-up unit of one row and two columns."""
    return synthesise(tensor_core("ltc-m1n2k4-int8")[0], tmp_path_factory.mktemp("unit"), PERIOD)


@pytest.mark.parametrize("name", PRESETS)
def test_verilog_has_no_faults(name: str, tmp_path: Path) -> None:
    text = verilog_of(tensor_core(name)[0].scaled(1, 2))
    (tmp_path / "unit.v").write_text(text)
    lint = ["verilator", "--lint-only", "-Wall", "--top-module", UNIT, "unit.v"]
    done = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    check = f"read_verilog unit.v; hierarchy -top {UNIT}; proc; check -assert"
    subprocess.run(["yosys", "-q", "-p", check], cwd=tmp_path, check=True)


def test_nothing_is_waived_but_names_and_extended_operands(tmp_path: Path) -> None:
    text = verilog_of(tensor_core("mac-fp16")[0].scaled(1, 1))
    (tmp_path / "unit.v").write_text(text.replace(WAIVED, ""))
    lint = ["verilator", "--lint-only", "-Wall", "--top-module", UNIT, "unit.v"]
    done = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = re.findall(r"^%(?:Warning|Error)-?(\w*): (.*)", done.stderr, re.MULTILINE)
    assert {kind for kind, _ in said} <= {"DECLFILENAME", "UNUSEDSIGNAL", "WIDTH", ""}
    widths = [
        WIDENED.search(line) for kind, line in said if kind == "WIDTH" and ANY_BIT not in line
    ]
    assert widths and all(found and int(found[2]) < int(found[1]) for found in widths)


def test_gates_compute_and_their_energy_is_measured(netlist: Netlist) -> None:
    core, work = netlist.core, gaussian()
    stream = work.stream(core, 1)
    watts = power_of(netlist, stream, accumulated(core, stream))
    assert netlist.meets_timing and 1e-3 < watts < 1e-2
    wrong = accumulated(core, stream) + 1
    with pytest.raises(LadderError, match="the gates compute other sums than the reference"):
        power_of(netlist, stream, wrong)


def test_energy_of_nets_and_leakage_are_those_of_opensta(netlist: Netlist) -> None:
    """Inside cells OpenSTA counts rising and falling for each change: up to twice as much."""
    cells, library = read_cells(netlist.folder / NETLIST), read_library(LIBERTY)
    driven = {
        cells.net(net)
        for kind, pins in cells.cells
        for pin, net in pins.items()
        if library.cells[kind].pins[pin].output
    }
    rates = {net: 0.2 for net in driven}
    found = energy_of(cells, library, rates, PERIOD)
    clocked = energy_of(cells, library, {**rates, "clk": 2}, PERIOD)
    commands = ["set_power_activity -global -activity 0.2", "report_power -digits 6"]
    report = static_timing(netlist.folder, PERIOD, commands)
    total = re.search(r"^Total +(\S+) +(\S+) +(\S+)", report, re.MULTILINE)
    assert total is not None
    inside, switching, leakage = (float(watts) * 1e3 * PERIOD for watts in total.groups())
    assert found.switching == pytest.approx(switching, rel=0.01)
    assert found.leakage == pytest.approx(leakage, rel=0.001)
    assert inside / 2 < clocked.inside < inside


def test_energy_inside_an_inverter(tmp_path: Path) -> None:
    """OpenSTA's number for one cell, at the same load and transition, is twice the mean."""
    ports = "input a, input clk, output y, output q"
    cells = "INVX1 one (.A(q), .Y(y)); DFFPOSX1 two (.D(a), .CLK(clk), .Q(q));"
    (tmp_path / NETLIST).write_text(f"module {UNIT}({ports}); {cells} endmodule\n")
    commands = [
        "set_load 0.05 [all_outputs]",
        "set_power_activity -global -activity 1",
        "report_power -digits 6 -instances [get_cells one]",
    ]
    report = static_timing(tmp_path, PERIOD, commands)
    found = re.search(r"^ *(\S+) +\S+ +\S+ +\S+ one$", report, re.MULTILINE)
    assert found is not None
    mean = read_library(LIBERTY).cells["INVX1"].pins["Y"].energy(0.05)
    assert float(found[1]) * 1e3 * PERIOD == pytest.approx(2 * mean, rel=0.3)


def test_changes_are_counted_for_each_bit(tmp_path: Path) -> None:
    lines = ["$timescale 1ns $end", "$var wire 1 ! a $end", "$var wire 2 % b $end", "#0", "x!"]
    lines += ["bx %", "#1", "0!", "b0 %", "#2", "1!", "b11 %", "#3", "0!", "b1 %"]
    (tmp_path / "changes").write_text("\n".join(lines) + "\n")
    assert counted(tmp_path / "changes") == {"a": 2, "a[0]": 2, "b[0]": 1, "b[1]": 2}


def test_measured_density_and_energy(tmp_path: Path) -> None:
    core, _ = tensor_core("adder-m1n1k2")
    rows = list(measure(core, [1, 2], gaussian(), PERIOD, tmp_path))
    assert [row.weight_bits for row in rows] == [1, 2]
    assert rows[0].gops_per_mm2 == pytest.approx(2 * rows[1].gops_per_mm2, rel=1e-3)
    assert rows[0].gops_per_mm2 == pytest.approx(4 / PERIOD / rows[0].area_mm2, rel=0.02)
    assert rows[0].pj_per_operation == pytest.approx(rows[0].milliwatts * PERIOD / 4, rel=0.01)


def test_tools_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LadderError, match=r"needs sta, yosys: install them.* opensta yosys'"):
        tools.check_tools("sta", "yosys")


def test_tools_that_fail_say_why(tmp_path: Path) -> None:
    with pytest.raises(LadderError, match="yosys failed: ERROR: "):
        tools.run(["yosys", "-q", "-p", "nonsense"], tmp_path)


def test_weights_that_a_unit_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(LadderError, match="adder: weights have 1, 2, 3, 4 bits, not 8"):
        list(measure(tensor_core("adder")[0], [8], gaussian(), PERIOD, tmp_path))


def test_bits_of_a_workload() -> None:
    """Each product starts a sum of its own."""
    stream = gaussian().stream(tensor_core("ltc-m1n2k4-int8")[0], 2)
    assert stream.start.sum() == 4 and stream.plane.sum() == 4 and stream.cycles <= 96
    assert np.unique(stream.weight).size > 8


def test_activations_are_rounded_to_the_type_of_the_unit() -> None:
    x = np.array([[1.0, 0.3, -0.0625, 0.5]], np.float32)
    codes = activations(tensor_core("adder")[0], x)
    assert codes.tolist() == [[127, 38, -8, 64]]
    eight = activations(tensor_core("ltc-m1n2k4-fp8")[0], x)
    assert eight.tolist() == [[1.0, 0.3125, -0.0625, 0.5]]
    assert activations(tensor_core("mac-fp16")[0], x)[0, 1] == np.float16(0.3)


def test_codes_of_weights() -> None:
    weight = np.array([[1.0, -1.0, 0.4, -0.6]], np.float32)
    assert codes_of(weight, 1).tolist() == [[1, 0, 1, 0]]
    values = codes_of(weight, 4).astype(int) - 8
    assert np.abs(values / np.abs(values).max() - weight).max() < 0.15
    assert codes_of(weight, 16).tolist() == weight.tolist()
