"""The command line without kernels and whole models: what ``make check`` runs of it."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx
import pytest
from conftest import SITE_KEYS, Ran
from small_graphs import graph, random

import ladder
from ladder.cli import about
from ladder.hardware.targets import ACCELERATORS, known_targets
from ladder.ir.dtype import ALIASES
from ladder.ir.element import ELEMENTS
from ladder.passes.infra.registry import PASSES

Cli = Callable[..., Ran]
Read = Callable[..., Any]
MATMUL = "g (float[M, 64] x) => (float[M, 40] y) { y = MatMul(x, w) }"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(graph(MATMUL, {"w": random(64, 40)}), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_version(cli: Cli) -> None:
    ran = cli("--version")
    lines = ran.out.splitlines()
    assert ran.code == 0 and not ran.err
    assert lines[0] == f"ladder {ladder.__version__}"
    assert lines[1:] == [
        f"TVM {version('apache-tvm')}",
        f"onnx-ir {version('onnx-ir')}",
        f"Python {platform.python_version()}",
    ]


def test_the_package_has_the_version_of_the_code() -> None:
    assert version("ladder") == ladder.__version__


def test_a_package_that_is_missing_is_no_error(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    """A device that runs artifacts has no onnx-ir."""

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(about, "version", absent)
    assert cli("--version").out.splitlines()[1:3] == ["TVM not installed", "onnx-ir not installed"]


def test_lists(read: Read) -> None:
    rows = read("types", "--target", "x86-64", "--activation", "table8")
    assert [row["type"] for row in rows] == [*ELEMENTS, *ALIASES]
    assert all(row["m1"]["reason"] and row["m128"]["in_registers"] for row in rows)
    names = [row["target"] for row in read("targets")]
    assert set(names) <= {*known_targets(), *ACCELERATORS} and "x86-64" in names
    assert [row["pass"] for row in read("passes")] == list(PASSES)
    assert all({"does", "options", "needs", "gives"} <= set(row) for row in read("passes"))


def test_cache(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDER_CACHE", str(tmp_path / "cache"))
    empty = {"folder": str(tmp_path / "cache"), "size_bytes": 0, "bound_bytes": 20e9}
    assert read("cache", "show") == empty
    (tmp_path / "cache" / "traces" / "one").mkdir(parents=True)
    (tmp_path / "cache" / "traces" / "one" / "file").write_bytes(b"12345")
    assert read("cache", "show")["size_bytes"] == 5
    assert read("cache", "prune", "--older", "1h") == {"freed_bytes": 0, "failed": {}}
    assert read("cache", "prune", "--max-size", "4B") == {"freed_bytes": 5, "failed": {}}
    assert read("cache", "clear") == {"freed_bytes": 0, "failed": {}}


def test_opt(read: Read, model: Path, tmp_path: Path) -> None:
    words = ["opt", model, "-p", "clean-up,allocate-uniform{type=int4:g32}"]
    rows = read(*words, "--dump-ir", tmp_path / "ir")
    assert [row["pass"] for row in rows] == ["clean-up", "allocate-uniform{type=int4:g32}"]
    assert all(row["seconds"] >= 0 for row in rows)
    assert len(list((tmp_path / "ir").iterdir())) == 3


def test_opt_prints_the_ir(cli: Cli, model: Path) -> None:
    ran = cli("opt", model, "-p", "allocate-uniform{type=int4:g32}")
    assert ran.code == 0 and "MatMul" in ran.out and "int4:g32" in ran.out


def test_lists_as_tables(cli: Cli) -> None:
    for word, name in (("types", "nf4"), ("targets", "x86-64-v3"), ("passes", "clean-up")):
        ran = cli(word)
        assert ran.code == 0 and name in ran.out and not ran.err


def test_project(read: Read) -> None:
    found = read("project")
    assert set(found) == {"label", "rows"} and found["rows"]


def test_quantize(read: Read, model: Path, tmp_path: Path) -> None:
    report = read("quantize", model, tmp_path / "out.onnx")
    assert {"size_bytes", "size_bytes_before", "bits_per_weight", "seconds"} <= set(report)
    assert report["size_bytes"] == (tmp_path / "out.onnx").stat().st_size
    (site,) = report["sites"]
    assert SITE_KEYS <= set(site)


def test_unknown_commands(cli: Cli) -> None:
    for words in (("compyle",), ("cache", "shw"), ("tune", "x"), ("kernels", "x")):
        ran = cli(*words)
        assert ran.code == 2 and not ran.out
        assert f"No such command '{words[-1]}'" in ran.err


def test_no_command_shows_the_help(cli: Cli) -> None:
    ran = cli()
    assert ran.code == 2 and "compile" in ran.out + ran.err


@pytest.mark.parametrize(
    "words",
    [
        "compile none.onnx -o out",
        "quantize none.onnx out.onnx",
        "plan none.onnx --bpw 4",
        "opt none.onnx -p clean-up",
        "eval none.onnx --text none.onnx",
        "run none.onnx --prompt a",
        "report none.onnx",
        "bench none.onnx",
        "bench device none.onnx -o out.json",
        "--config none.onnx types",
    ],
)
def test_missing_files(
    cli: Cli, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = cli(*words.split())
    assert ran.code == 2 and not ran.out
    assert re.fullmatch(r"ladder: [^\n]*none\.onnx[^\n]+\n", ran.err), ran.err
    assert not list(tmp_path.iterdir())


def test_stages_are_lines_where_stderr_is_no_terminal(
    cli: Cli, model: Path, tmp_path: Path
) -> None:
    ran = cli("quantize", model, tmp_path / "out.onnx")
    assert ran.code == 0 and "round the weights" in ran.stages and not ran.err
    assert ran.out.startswith(f"Wrote {tmp_path / 'out.onnx'}: ")


def test_quantize_says_what_other_models_are_for(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.gguf").write_text("")
    for path in (tmp_path, tmp_path / "model.gguf"):
        ran = cli("quantize", path, tmp_path / "out.onnx")
        assert ran.code == 2 and f"this model is for 'ladder compile {path} -o DIR'" in ran.err
