"""Ladder and those real engines that are installed, on a small product."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ladder.errors import LadderError
from ladder.hardware.targets import LEVELS, runs_here
from ladder.ir.dtype import DType
from ladder.peers import OWN, PEERS, engine_class, peers_of
from ladder.peers.engine import CLASSES, TERNARY
from ladder.peers.harness import Group, Settings, Station, batches, groups_of
from ladder.peers.limits import READ
from ladder.peers.own import TYPES, class_of, own_kind
from ladder.peers.page import TABLES, check_page, write_page
from ladder.peers.run import compare
from ladder.peers.table import COLUMNS, fastest_peer, tables
from ladder.support.marks import marks
from ladder.timing.rotation import copies_of

pytestmark = [pytest.mark.kernels, pytest.mark.models, pytest.mark.xdist_group("peers")]

VNNI = {"avx_vnni", "avx512_vnni"}  # flags of CPUs
QUICK = Settings(rounds=2, seconds=0.002, rotate=2e5)
SHAPES = [(1, 128, 160), (3, 128, 160)]  # K is not a multiple of 64, so engines use groups of 32
ROW = {
    "engine", "version", "type", "bits_per_weight", "scheme", "isa", "m", "n", "k", "threads",
    "median_s", "spread", "error",
}  # fmt: skip
ALWAYS = ("onnxruntime", "torch")  # always installed for tests


def installed(name: str) -> bool:
    try:
        engine_class(name)(1).version()
    except ImportError:
        return False
    return True


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Every engine on 4 bits, and the file that the run was saved to."""
    path = tmp_path_factory.mktemp("peers") / "run.json"
    return compare([*PEERS], SHAPES, [1], ["int4:g32"], QUICK, path), path


def test_every_installed_engine_has_rows(run: tuple[dict[str, Any], Path]) -> None:
    document, path = run
    here = {OWN, *ALWAYS, *(name for name in PEERS if name not in ALWAYS and installed(name))}
    assert {row["engine"] for row in document["rows"]} == here
    for name in {*PEERS} - here:
        assert any(f"{name} is not installed: pip install" in n for n in document["notes"])
    assert not [n for n in document["notes"] if "not installed" not in n and "this build" not in n]
    assert json.loads(path.read_text()) == document


def rounds_activations(engine: str) -> bool:
    """OpenVINO multiplies in floats where the CPU has no products of bytes (VNNI)."""
    vnni = any(runs_here(level) for level in LEVELS.values() if VNNI & level.flags)
    return engine != "openvino" or vnni


def test_rows_are_whole_and_right(run: tuple[dict[str, Any], Path]) -> None:
    rows = run[0]["rows"]
    for row in rows:
        where = f"{row['engine']} {row['type']}"
        assert set(row) >= ROW, where
        assert row["bits"] == "4" and 4 < row["bits_per_weight"] < 8.5, where
        assert (row["n"], row["k"], row["threads"]) == (128, 160, 1), where
        assert row["median_s"] > 0 and row["rounds"] == QUICK.rounds, where
        assert row["rotated_bytes"] > QUICK.rotate, where
        least = 1e-4 if rounds_activations(row["engine"]) else 0.0
        assert least < row["error"] < 0.02, f"{where}: activations are rounded, weights are not"
    for engine in {row["engine"] for row in rows}:
        assert {row["m"] for row in rows if row["engine"] == engine} == {1, 3}, engine


def test_limits_are_measured_in_the_same_rounds(run: tuple[dict[str, Any], Path]) -> None:
    (read,) = (limit for limit in run[0]["limits"] if limit["name"] == READ)
    assert read["unit"] == "bytes/s" and 1e8 < read["median"] < 1e12
    assert all(limit["weight"] == [128, 160] for limit in run[0]["limits"])
    assert all(limit["median"] > 1e8 for limit in run[0]["limits"])


def test_tables_are_sorted_and_compare_within_a_class(run: tuple[dict[str, Any], Path]) -> None:
    shown = dict(tables(run[0]))
    assert [title.split(";")[0] for title in shown] == [
        "M=1, 128x160, 1 thread",
        "M=3, 128x160, 1 thread",
    ]
    for cells in shown.values():
        assert all(len(line) == len(COLUMNS) for line in cells)
        times = [float(line[COLUMNS.index("ms")]) for line in cells]
        assert times == sorted(times)
    own = next(row for row in run[0]["rows"] if row["engine"] == OWN)
    peer = fastest_peer(own, run[0]["rows"])
    assert peer is not None and peer["engine"] != OWN and peer["m"] == own["m"]
    assert peer["median_s"] == min(
        r["median_s"] for r in run[0]["rows"] if r["engine"] != OWN and r["m"] == own["m"]
    )


def test_a_saved_run_resumes(run: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    document, path = run
    again = compare([*PEERS], SHAPES, [1], ["int4:g32"], QUICK, path)
    assert again == document, "nothing was left to measure"
    with pytest.raises(LadderError, match="with other options"):
        compare([*PEERS], SHAPES, [1], [], QUICK, path)
    (tmp_path / "text").write_text("some text")
    with pytest.raises(LadderError, match="not a run that was saved by --resume"):
        compare([*PEERS], SHAPES, [1], [], QUICK, tmp_path / "text")


def test_the_page_is_written_between_its_marks(
    run: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    page = tmp_path / "performance.md"
    with pytest.raises(LadderError, match=r"performance\.md: cannot be read"):
        check_page(page)
    page.write_text("# Performance\n")
    with pytest.raises(LadderError, match="has no lines"):
        check_page(page)
    begin, end = marks(TABLES)
    page.write_text(f"# Performance\n\n{begin}\nof last year\n{end}\n\nThe rest.\n")
    write_page(page, run[0], "ladder bench kernel --peers all")
    text = page.read_text()
    assert text.startswith("# Performance\n\n") and text.endswith(f"{end}\n\nThe rest.\n")
    assert "of last year" not in text and run[0]["machine"]["date"] in text
    assert "### One token, 1 thread" in text and "### More tokens, 128x160, 1 thread" in text
    assert "| 4 | ladder | `int4:g32` | 5.000 |" in text


@pytest.mark.parametrize("gone", [False, True], ids=["dying", "gone"])
def test_an_engine_that_dies_is_a_note_and_starts_again(gone: bool) -> None:
    notes: list[str] = []
    group, settings = Group(1, 96, 128, [1]), replace(QUICK, rotate=1e4)
    station = Station("onnxruntime", 1, settings, notes)
    try:
        four, eight = (
            kind
            for kind in station.kinds(group)
            if kind["bits"] in "48" and kind["type"].endswith("g128")
        )
        station.prepare(group, {0: four, 1: eight})
        dead, alive = station.cases
        os.kill(station.pid, signal.SIGKILL)
        if gone:  # the request cannot be sent; otherwise it may be read but not answered
            os.waitid(os.P_PID, station.pid, os.WEXITED | os.WNOWAIT)
        station.turn(dead, group)
        assert dead.lost and notes == [
            "onnxruntime uint4:g128 (MatMulNBits acc4), 96x128, 1 thread: died of SIGKILL"
        ]
        station.turn(alive, group)
        assert not alive.lost and len(alive.times) == 1
    finally:
        station.end()


def test_a_failure_of_an_engine_is_a_note() -> None:
    notes: list[str] = []
    group = Group(1, 96, 128, [1])
    station = Station("onnxruntime", 1, QUICK, notes)
    try:
        kind = {"type": "uint5:g128", "bits": "4", "scheme": "MatMulNBits acc4"}
        station.prepare(group, {0: kind})
    finally:
        station.end()
    assert station.cases == [] and len(notes) == 1
    assert notes[0].startswith("onnxruntime uint5:g128 (MatMulNBits acc4), 96x128, 1 thread: ")


def test_peers_by_name() -> None:
    assert peers_of("all") == [*PEERS]
    assert peers_of("torch, onnxruntime,torch") == ["torch", "onnxruntime"]
    with pytest.raises(LadderError, match="unknown peer 'tmac'; one of: onnxruntime, openvino"):
        peers_of("torch,tmac")
    with pytest.raises(LadderError, match="--peers is empty"):
        peers_of(" ,")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--types int4:g128", "--types needs --peers"),
        ("--resume run.json", "--resume needs --peers"),
        ("--shape 1x64x64,2x64x64", "several --shape need --peers"),
        ("--threads 1,2", "--threads '1,2': give one number, or add --peers all"),
        ("--threads x", "--threads 'x': give a positive number"),
        ("--peers all --rounds 0", "--rounds 0: give a positive number"),
        ("--peers all --shape 1x64", "--shape '1x64': write MxNxK"),
        ("--peers torch --types int9:g128", "unknown type 'int9:g128'"),
    ],
)
def test_options_that_do_not_go_together(cli: Callable[..., Any], words: str, message: str) -> None:
    ran = cli("bench", "kernel", *words.split())
    assert ran.code == 2 and message in ran.err


def test_classes_of_bits() -> None:
    assert {class_of(DType.parse(text)) for text in TYPES} == {*CLASSES} - {"dense"}
    found = [class_of(DType.parse(t)) for t in ("int1:g128", "ternary:tensor", "ternary2:g64")]
    assert found == ["1", TERNARY, TERNARY]
    with pytest.raises(LadderError, match="--types 'fp16': give low-bit types"):
        own_kind("fp16")


def test_copies_take_more_than_the_rotated_bytes() -> None:
    for stored in (1e3, 2.6e6, 45e6, 500e6):
        copies = copies_of(stored, 300e6)
        assert copies * stored > 300e6 or copies == 257


def test_shapes_of_one_weight_are_measured_together() -> None:
    groups = groups_of([(1, 64, 32), (8, 64, 32), (1, 32, 32), (1, 64, 32)], [1, 2])
    assert [(g.threads, g.n, g.tokens) for g in groups] == [
        (1, 64, [1, 8]), (1, 32, [1]), (2, 64, [1, 8]), (2, 32, [1]),
    ]  # fmt: skip


def test_batches_keep_limits_and_lose_nothing() -> None:
    kinds: Any = [(None, {"bits": bits, "id": i}) for i, bits in enumerate(("limits", *CLASSES))]
    small = [*batches(kinds, replace(QUICK, rotate=1e12))]
    assert len(small) == len(CLASSES)
    assert all(batch[0][1]["bits"] == "limits" for batch in small)
    (whole,) = batches(kinds, QUICK)
    assert sorted(kind["id"] for _, kind in whole) == [*range(len(kinds))]
