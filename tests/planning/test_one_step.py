"""A budget for ``compile`` and ``quantize``: the plan is made and applied in one step."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from small_graphs import graph, random, stock
from tiny import CHUNK, CONTEXT

import ladder
from ladder.cli.compiling import compile_command, quantize_command
from ladder.cli.planning import plan_command
from ladder.errors import LadderError
from ladder.evaluation.report_page import page
from ladder.ir.dtype import DType
from ladder.options.requests import NOT_FOR_FILES, CompileOptions, PlanOptions, QuantizeOptions
from ladder.options.split import split
from ladder.passes.infra.patterns import Rule
from ladder.pipeline.plan_file import read_plan
from ladder.runtime.artifact import MANIFEST

Cli = Callable[..., Any]
TYPES = "int2:g32,int3:g32,int4:g32,int8:row"
NET = """g (float[M, 64] x) => (float[M, 32] y) {
  h = MatMul(x, "up_proj.weight")
  r = Relu(h)
  y = MatMul(r, "down_proj.weight")
}"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """An ONNX file, and samples of its input next to it."""
    weights = {"up_proj.weight": random(64, 96), "down_proj.weight": random(96, 32, seed=1)}
    onnx.save(graph(NET, weights), tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", x=random(3, 5, 64, seed=2))
    return tmp_path / "net.onnx"


@pytest.mark.models
@pytest.mark.xdist_group("planning")
def test_compile(cli: Cli, tiny_chat_folder: Path, calibration_text: Path, tmp_path: Path) -> None:
    """The artifact, its report page and the saved plan agree, and the plan can be used."""
    out, saved = tmp_path / "out", tmp_path / "plan.toml"
    words = ["compile", tiny_chat_folder, "-o", out, "--context", CONTEXT, "--chunk", CHUNK]
    words += [
        "--bpw",
        "4.2",
        "--types",
        TYPES,
        "--calib",
        calibration_text,
        "--windows",
        2,
        "--tokens",
        24,
    ]
    ran = cli(*words, "--save-plan", saved, "--rule", "lm_head=int8:row", "--json")
    assert ran.code == 0, ran
    report, plan = ran.json, read_plan(saved)
    assert {s["name"]: s["type"] for s in report["sites"]} == {
        name: str(type) for name, type in plan.sites.items()
    }
    assert plan.sites["lm_head"] == DType.parse("int8:row") and len(set(plan.sites.values())) > 1
    reported = report["plan"]
    assert reported["asked"]["budget"] == "bpw 4.2" and reported["predicted"]["bpw"] <= 4.2
    assert set(reported["uniform"]) == set(TYPES.split(",")) and reported["measured"]["kl"] > 0
    assert "rounding = gptq" in report["assumed"] and "target = native" in report["assumed"]
    assert not any(row.startswith(("type", "tokens")) for row in report["assumed"])
    assert any("would cost" in site["reason"] for site in report["sites"])
    manifest = json.loads((out / MANIFEST).read_text())
    shown = page(manifest)
    for words_of in ("bpw 4.2", "this plan", "int3:g32", f"{reported['measured']['kl']:.4g}"):
        assert words_of in shown
    sizes: dict[str, Any] = {"context": CONTEXT, "chunk": CHUNK, "windows": 2, "tokens": 24}
    again = ladder.compile(
        tiny_chat_folder, tmp_path / "again", plan=saved, calib=calibration_text, **sizes
    )
    assert again["plan"]["predicted"] == plan.predicted
    files = manifest["files"]
    assert json.loads((tmp_path / "again" / MANIFEST).read_text())["files"] == files


@pytest.mark.models
@pytest.mark.parametrize("format", ["qdq", "nbits"])
def test_quantize(cli: Cli, net: Path, tmp_path: Path, format: str) -> None:
    out, saved = tmp_path / "out.onnx", tmp_path / "plan.toml"
    options = ["--bpw", "5", "--types", "int4:g32,int8:g32", "--calib", tmp_path / "x.npz"]
    words = ["quantize", net, out, *options, "--format", format, "--save-plan", saved]
    ran = cli(*words, "--json")
    assert ran.code == 0, ran
    report, plan = ran.json, read_plan(saved)
    assert {s["name"]: s["type"] for s in report["sites"]} == {
        name: str(type) for name, type in plan.sites.items()
    }
    assert report["plan"]["predicted"]["metric"] == "mse"
    assert report["bits_per_weight"] <= 5
    (y,) = stock(out, {"x": random(5, 64)})
    (wanted,) = stock(net, {"x": random(5, 64)})
    assert 0 < np.abs(y - wanted).max() < 0.5 * np.abs(wanted).max()
    again = ladder.export_onnx(net, tmp_path / "again.onnx", plan=saved, format=format)
    assert again["sites"] != [] and [s["type"] for s in again["sites"]] == [
        str(type) for type in plan.sites.values()
    ]
    assert "bits per weight" in cli("quantize", net, out, *options).out


@pytest.mark.models
def test_a_file_over_the_budget_is_reported(net: Path, tmp_path: Path) -> None:
    """The graph is part of the file and not of the weights."""
    asked: dict[str, Any] = {"types": "int4:g32,int8:g32", "calib": tmp_path / "x.npz"}
    report = ladder.export_onnx(net, tmp_path / "out.onnx", size="5.8kB", **asked)
    assert report["plan"]["predicted"]["bytes"] <= 5800 < report["size_bytes"]
    assert any("over --size 5.8kB: the limit is on the weights" in n for n in report["notes"])


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"bpw": "3", "type": "int4:g32"}, r"--bpw and --type both say .*: leave out one .restrict"),
    ({"bpw": "3", "plan": "p.toml"}, r"--bpw and --plan both say the sites' types: leave out one"),
    ({"max_kl": "1", "type": "int4:g32"}, "--max-kl and --type both say"),
    (
        {"types": "int4:g32,int8:row"},
        "--types is an option of a plan: ask for one with --bpw",
    ),
    ({"rest": "3ms"}, "--overhead is an option of a plan"),
    ({"calib": "t.txt"}, r"--calib t\.txt: nothing is calibrated; give a budget"),
    ({"plan": "p.toml", "type": "int8:row"}, "--plan says every site's type: leave out --type"),
    ({"plan": "p.toml", "rules": "a=int8:row"}, "--plan says every site's type: leave out --type"),
    ({"bpw": "3", "bits": "1"}, "unknown option 'bits'; valid options are: "),
    ({"bpw": "-3"}, "--bpw '-3': write a positive number"),
    ({"bpw": "3", "types": "int4:g32"}, "--types: int4:g32 leaves nothing to choose"),
    ({"bpw": "3", "minimise": "all"}, "--minimise 'all': write one of loss, size, latency"),
    ({"prefer": "size=1"}, "--prefer 'size=1': write memory, latency, accuracy, each at most once"),
    ({"bpw": "3", "prefer": "memory=1", "minimise": "size"}, "--prefer and --minimise both say"),
    (
        {"save_plan": "p.toml", "type": "int4:g32"},
        r"--save-plan p\.toml: no plan is made; give a budget",
    ),
]


@pytest.mark.parametrize(("asked", "message"), REFUSED, ids=lambda v: str(v)[:40])
def test_refused_before_anything_is_loaded(
    tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not read")
    for make in (ladder.compile, ladder.export_onnx):
        with pytest.raises(LadderError, match=message):
            make(tmp_path / "model.onnx", tmp_path / "out", **asked)
    assert [f.name for f in tmp_path.iterdir()] == ["model.onnx"]


def test_a_latency_is_refused_for_an_onnx_file(tmp_path: Path) -> None:
    both: list[Any] = [{"latency": "1ms"}, {"prefer": "latency=1,memory=1"}]
    for asked in both:
        with pytest.raises(LadderError, match="ONNX Runtime runs the file, but Ladder's"):
            ladder.export_onnx(tmp_path / "model.onnx", tmp_path / "out.onnx", **asked)


@pytest.mark.models
def test_a_least_value_over_the_budget_is_reported(net: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"types": TYPES, "calib": tmp_path / "x.npz"}
    with pytest.raises(LadderError, match=r"--bpw 1 cannot be met: the least reachable is 3 bits"):
        ladder.export_onnx(net, tmp_path / "out.onnx", bpw="1", **asked)
    with pytest.raises(LadderError, match=r"--size 1kB cannot be met: the least reachable is \d"):
        ladder.compile(net, tmp_path / "out", size="1kB", **asked)
    assert not (tmp_path / "out.onnx").exists() and not (tmp_path / "out").exists()


def test_options_are_sorted() -> None:
    asked = {"bpw": 3.5, "rules": "lm_head=int8:row", "calib": "a.txt", "context": 64, "size": ""}
    options, plan = split(asked, CompileOptions)
    assert (
        options == CompileOptions(context=64, rules=(Rule.parse("lm_head=int8:row"),))
        and plan is not None
    )
    assert plan == PlanOptions(
        bpw="3.5", rules=(Rule.parse("lm_head=int8:row"),), calib=Path("a.txt")
    )
    assert split({"type": "int4:g32"}, QuantizeOptions) == (
        QuantizeOptions(type=DType.parse("int4:g32")),
        None,
    )


COMMANDS: dict[Callable[..., None], tuple[Any, ...]] = {
    plan_command: (PlanOptions,),
    compile_command: (CompileOptions, PlanOptions),
    quantize_command: (QuantizeOptions, PlanOptions),
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.__name__)
def test_the_command_line_shows_the_defaults_there_are(command: Callable[..., None]) -> None:
    """Options that are not given are not passed on, so defaults there are only for help."""
    defaults = {f.name: f.default for cls in reversed(COMMANDS[command]) for f in fields(cls)}
    for name, parameter in inspect.signature(command).parameters.items():
        if name in defaults:
            shown = parameter.default
            shown = tuple(shown.split(",")) if name == "types" else shown
            assert (shown or None) == (defaults[name] or None), name
    lacking = set(defaults) - set(inspect.signature(command).parameters)
    assert lacking <= {"scheme", "accuracy_level", "pareto", "chosen"} | (
        {*NOT_FOR_FILES, "activation"} if command is quantize_command else set()
    )
