"""``ladder hardware``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

from ladder.codegen.hardware import tools
from ladder.errors import LadderError
from ladder.hardware.tensor_cores import PRESETS, tensor_core
from ladder.planning.unit_front import unit_front

Cli = Callable[..., Ran]
Read = Callable[..., Any]


def test_list_has_every_preset(read: Read) -> None:
    rows = read("hardware", "list", "--json")
    assert [row["unit"] for row in rows] == list(PRESETS)
    assert {row["operations a cycle"] for row in rows} == {1024}


@pytest.mark.parametrize(
    ("name", "kind", "size", "activation", "table", "bits"),
    [
        ("ltc-m2n64k4-w1a8", "lookup", (2, 64, 4), "int8", 0, 1),
        ("ltc-m2n64k4-w4a16", "lookup", (2, 64, 4), "fp16", 16, 4),
        ("ltc-m2n64k4-w1a16t8", "lookup", (2, 64, 4), "fp16", 8, 1),
        ("ltc-m1n4k5-fp8", "lookup", (1, 4, 5), "fp8", 16, None),
        ("adder-m1n4k8", "adder", (1, 4, 8), "int8", 0, None),
        ("mac-fp16", "multiply", (2, 64, 4), "fp16", 0, None),
    ],
)
def test_names(
    name: str, kind: str, size: tuple[int, int, int], activation: str, table: int, bits: int | None
) -> None:
    core, found = tensor_core(name)
    assert (core.kind, (core.m, core.n, core.k), found) == (kind, size, bits)
    assert (core.activation.name, core.table_bits) == (activation, table)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ltc", "unknown tensor core 'ltc'; one of ltc-m2n64k4-int8, "),
        ("mac-int4", "did you mean 'mac-int8'"),
        ("ltc-m2n64k12-int8", "K is at most 8, because a table has"),
    ],
)
def test_names_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(LadderError) as error:
        tensor_core(name)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("synth", "--preset", "adder", "--bits", "1,x"), "--bits 1,x: give numbers of 1 or more"),
        (("synth", "--preset", "adder", "--period", "0"), "--period 0.0: give a time above 0 ns"),
        (("sweep", "--m", "0"), "--m 0: give numbers of 1 or more"),
        (("sweep", "--picture", "front.txt"), "--picture front.txt: give a file that ends in"),
    ],
)
def test_options_that_are_refused(cli: Cli, words: tuple[str, ...], message: str) -> None:
    ran = cli("hardware", *words)
    assert ran.code == 2 and message in ran.err


def test_tools_that_are_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    ran = cli("hardware", "synth", "--preset", "adder")
    assert ran.code == 2
    assert "apt-get install iverilog opensta yosys" in ran.err.replace(" qflow-tech-osu018", "")


def test_language_that_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "PYTHON", ("amaranth_of_another_world",))
    ran = cli("hardware", "emit", "adder", "-o", "unit.v")
    assert ran.code == 2 and "pip install 'ladder[hardware]'" in ran.err


def test_front_has_the_units_that_no_other_excels() -> None:
    rows = [
        {"unit": unit, "gops_per_mm2": density, "pj_per_operation": energy}
        for unit, density, energy in (("a", 10, 5), ("b", 8, 6), ("c", 8, 3), ("d", 2, 1))
    ]
    assert [row["unit"] for row in unit_front(rows)] == ["a", "c", "d"]


@pytest.mark.hardware
def test_emit_writes_verilog(read: Read, tmp_path: Path) -> None:
    row = read("hardware", "emit", "ltc-m1n2k4-w1a8", "-o", tmp_path / "unit.v", "--json")
    assert row["top"] == "unit" and "module unit(" in (tmp_path / "unit.v").read_text()


@pytest.mark.hardware
def test_synth_and_sweep(cli: Cli, read: Read, tmp_path: Path) -> None:
    words = ("hardware", "synth", "--preset", "adder-m1n1k1", "--bits", "1", "--json")
    row = read(*words, "-o", tmp_path / "netlists")[0]
    assert row["data"] == "Gaussian data" and row["meets_timing"] and row["pj_per_operation"] > 0
    assert (tmp_path / "netlists" / "adder-m1n1k1" / "netlist.v").is_file()
    picture = tmp_path / "front.svg"
    sizes = ("--m", "1", "--n", "1", "--k", "1,2", "--table-bits", "0", "--picture", picture)
    ran = cli("hardware", "sweep", *sizes)
    assert ran.code == 0 and "ltc-m1n1k2-int8" in ran.out and "<svg" in picture.read_text()
    assert "The energy is that of Gaussian data" in ran.err
