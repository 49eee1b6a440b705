"""Projections: calculations from published facts, never called a measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ladder.hardware import projection
from ladder.hardware.devices import Fact
from ladder.hardware.projection import ALL_DEVICES, LABEL, project, table
from ladder.ir.dtype import DType

Cli = Callable[..., Any]
INT4, SIZE = DType.parse("int4:g128"), 4096


@pytest.mark.parametrize("name", ALL_DEVICES)
def test_every_device_is_projected_with_its_sources(name: str) -> None:
    row = project(name, INT4, SIZE, SIZE)
    assert row["label"] == LABEL and "not a measurement" in LABEL
    size = SIZE * SIZE * 4.25 / 8
    memory = next(bound for bound in row["bounds"] if bound["what"] == "memory")
    assert memory["seconds"] == pytest.approx(size / ALL_DEVICES[name].bandwidth.value)
    assert "4096 x 4096 x 4.25 bits / 8 = 8.913 MB" in memory["arithmetic"]
    assert row["seconds"] == max(bound["seconds"] for bound in row["bounds"])
    assert row["sources"] and all(row["sources"])


def test_the_npu_is_bound_by_its_slowest_part() -> None:
    row = project("snapdragon-x-elite-npu", INT4, SIZE, SIZE)
    by_name = {bound["what"]: bound for bound in row["bounds"]}
    # Two look-ups for 256 weight bits, one a cycle, four contexts at 1 GHz.
    look_ups = SIZE * SIZE * 4 / 256 * 2 / (4 * 1e9)
    assert by_name["lookup instructions"]["seconds"] == pytest.approx(look_ups)
    one = project("snapdragon-x-elite-npu", INT4, SIZE, SIZE, cores=1)
    assert one["bound_by"] == "lookup instructions" and one["seconds"] == pytest.approx(
        4 * look_ups
    )


def test_tables_of_one_byte_take_half_the_look_ups() -> None:
    pi = "raspberry-pi-5"
    both = [project(pi, INT4, SIZE, SIZE, mode=mode)["bounds"] for mode in ("int8", "table8")]
    exact, rounded = ({b["what"]: b["seconds"] for b in bounds} for bounds in both)
    assert exact["lookup instructions"] == pytest.approx(2 * rounded["lookup instructions"])
    assert exact["memory"] == rounded["memory"]


def test_a_faster_memory_shifts_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = replace(ALL_DEVICES["snapdragon-x-elite-npu"], bandwidth=Fact(1e15, "none"))
    monkeypatch.setitem(projection.ALL_DEVICES, fast.name, fast)
    monkeypatch.setattr(projection, "NPU", fast)
    assert project(fast.name, INT4, SIZE, SIZE)["bound_by"] == "lookup instructions"


def test_published_figures_are_next_to_them() -> None:
    rows = table()
    assert {row["device"] for row in rows} <= set(ALL_DEVICES)
    for row in rows:
        assert row["published_tokens_a_second"] > 0 and row["projected_tokens_a_second"] > 0
    pi = next(r for r in rows if r["device"] == "raspberry-pi-5" and r["type"] == "int2:g128")
    assert (pi["model"], pi["published_tokens_a_second"]) == ("Llama-2-7B", 5.92)


def test_the_command(cli: Cli) -> None:
    ran = cli("project", "--target", "raspberry-pi-5", "--type", "int2:g64")
    assert ran.code == 0 and ran.out.startswith(LABEL) and "17.1 GB/s" in ran.out
    assert cli("project", "--json").json["label"] == LABEL


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "pdp-11"), "no published facts about 'pdp-11'; give one of raspberry-pi-5"),
        (("--target", "raspberry-pi-5", "--shape", "4096"), "--shape 4096: give 1xNxK"),
        (("--target", "raspberry-pi-5", "--activation", "int4"), "give one of int8, table8"),
        (("--target", "raspberry-pi-5", "--type", "int9"), "unknown type 'int9'"),
    ],
)
def test_refusals(cli: Cli, words: tuple[str, ...], message: str) -> None:
    ran = cli("project", *words)
    assert ran.code == 2 and message in ran.err and len(ran.err.splitlines()) == 1
