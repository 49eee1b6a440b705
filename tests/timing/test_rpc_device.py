"""``ladder bench device --rpc``: TVM's RPC server on an emulated board, used from this machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulation import arm64

from ladder.timing.product_costs import Setting, read_costs

pytestmark = pytest.mark.kernels
ASKED = ("--shape", "70x96", "--types", "int4:g32,nf4:g32", "--chunk", 3)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def board() -> Iterator[str]:
    """A CPU with dot products and without byte matrices."""
    with arm64.rpc_server("armv8.2", free_port()) as where:
        yield where


def test_costs_of_a_board(board: str, cli: Any, tmp_path: Path) -> None:
    """Bits are compared, times are measured on the board, and a plan uses the file."""
    path = tmp_path / "costs.json"
    words = ["bench", "device", "-o", path, "--rpc", board, "--target", "raspberry-pi-5"]
    ran = cli(*words, *ASKED, "--threads", 1, "--json")
    assert ran.code == 0, ran.err
    assert f"over RPC at {board}, raspberry-pi-5, 1 threads" in ran.json["source"]
    assert "had the same bits as on this machine" in ran.json["source"]
    costs = read_costs(path, Setting.of("raspberry-pi-5", "int8", 3))
    assert json.loads(path.read_text())["target"] == "raspberry-pi-5"
    for row in (costs.decode, costs.prefill):
        assert {*row} == {"int4:g32", "nf4:g32"}
        assert all(seconds > 0 for times in row.values() for seconds in times.values())


def test_a_whole_model_is_planned_by_its_costs(
    board: str, cli: Any, tiny_chat_folder: Path, tmp_path: Path
) -> None:
    """The commands of docs/guide/devices.md, one after the other."""
    path, types = tmp_path / "costs.json", ("--types", "int4:g32,int8:row")
    device = ("--target", "raspberry-pi-5", *types)
    bench = ("bench", "device", tiny_chat_folder, "--rpc", board, *device, "-o", path)
    assert cli(*bench, "--threads", 1).code == 0
    options = ("--latency", "60ms", "--overhead", "10ms", "--costs", path)
    ran = cli("plan", tiny_chat_folder, *options, *device)
    assert ran.code == 0, ran.err
    assert f"over RPC at {board}" in ran.out.replace("\n", " ")


def test_instructions_that_the_board_lacks(board: str, cli: Any, tmp_path: Path) -> None:
    """Refused before anything runs that would end the server."""
    words = ["bench", "device", "-o", tmp_path / "c.json", "--rpc", board]
    ran = cli(*words, "--target", "snapdragon-x-elite", *ASKED)
    assert ran.code == 2
    assert f"--target snapdragon-x-elite: the CPU at {board} lacks bf16, i8mm" in ran.err
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--rpc", "board", "--target", "arm64"), "write HOST:PORT"),
        (("--rpc", "127.0.0.1:9", "--target", "arm64"), "no TVM RPC server answers there"),
        (("--rpc", "127.0.0.1:9"), "--rpc needs the device's --target"),
    ],
)
def test_refusals(words: tuple[str, ...], line: str, cli: Any, tmp_path: Path) -> None:
    ran = cli("bench", "device", "-o", tmp_path / "c.json", *words, *ASKED)
    assert ran.code == 2 and line in ran.err
