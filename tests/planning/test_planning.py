"""``ladder plan`` on a tiny model: every budget, the real run, fronts, costs, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from small_graphs import graph, random

from ladder.errors import LadderError, NothingToQuantize
from ladder.frontend.types import Source
from ladder.hardware.targets import levels_of
from ladder.ir.dtype import DType
from ladder.ir.site import find_sites
from ladder.options.requests import CompileOptions, PlanOptions
from ladder.passes.infra.patterns import Rule
from ladder.pipeline.plan_file import read_plan
from ladder.planning import evaluate_plan as plan_check
from ladder.planning import pareto
from ladder.planning import times as plan_times
from ladder.planning.make import plan_model
from ladder.timing import product_costs
from ladder.timing.steadiness import TRIES, Timed

TYPES = ("int2:g32", "int3:g32", "int4:g32", "int8:row")
TEXT = "the quick brown fox jumps over the lazy dog. "
BYTE, CALL = 1e-9, 2e-6
SLOPE, REST, MIXED = 1.25, 1e-4, 1.1


def fake_seconds(key: product_costs.Key, level: Any, activation: str) -> float:
    type, m, (n, k) = key
    return DType.parse(type).stored_bits(n, k) / 8 * BYTE * (1 + m / 64) + CALL


def fake_timed(key: product_costs.Key, level: Any, activation: str) -> Timed:
    return Timed((fake_seconds(key, level, activation),))


@pytest.fixture(autouse=True)
def no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times follow a formula, so that the tests do not depend on the machine."""

    def decoded(source: Source, options: CompileOptions) -> float:
        sites = [s for s in find_sites(source.model)[0] if s.node.op_type != "Gather"]
        types = {s.name: options.type for s in sites}
        types |= {rule.pattern: rule.type for rule in options.rules}
        each = (fake_seconds((str(types[s.name]), 1, (s.n, s.k)), None, "int8") for s in sites)
        # A model of many types is a bit slower than the sum of its products.
        return (SLOPE * sum(each) + REST) * (MIXED if options.rules else 1.0)

    monkeypatch.setattr(product_costs, "_timed", fake_timed)
    monkeypatch.setattr(
        plan_times, "other_bytes", lambda source, options: 0
    )  # only weights count here
    monkeypatch.setattr(plan_times, "_decode_seconds", decoded)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "calibration.txt"
    path.write_text(TEXT * 20)
    return path


@pytest.fixture
def options(text: Path) -> PlanOptions:
    return PlanOptions(
        types=tuple(map(DType.parse, TYPES)),
        calib=text,
        windows=4,
        tokens=24,
        overhead="100us",
        rounding="mse",
    )


ASKED: list[tuple[dict[str, Any], Callable[[dict[str, float]], bool]]] = [
    ({"bpw": "4.2"}, lambda p: p["bpw"] <= 4.2),
    ({"size": "40kB"}, lambda p: p["bytes"] <= 40e3),
    ({"latency": "180us"}, lambda p: p["seconds"] <= 180e-6),
    ({"max_kl": "0.2"}, lambda p: p["loss"] <= 0.2),
    ({"max_kl": "0.2", "minimise": "latency"}, lambda p: p["loss"] <= 0.2),
    ({"prefer": "memory=1,latency=1,accuracy=1"}, lambda p: True),
    ({"size": "40kB", "latency": "180us"}, lambda p: p["bytes"] <= 40e3),
]


@pytest.mark.models
@pytest.mark.xdist_group("planning")
@pytest.mark.parametrize(
    ("asked", "holds"), ASKED, ids=lambda v: str(v)[:40] if v.__class__ is dict else "holds"
)
def test_budgets(
    tiny_chat_folder: Path,
    options: PlanOptions,
    asked: dict[str, Any],
    holds: Callable[[dict[str, float]], bool],
) -> None:
    report = plan_model(tiny_chat_folder, replace(options, **asked)).report
    json.dumps(report.to_json())
    assert holds(report["predicted"]) and report["status"] == "optimal"
    assert set(report["uniform"]) == set(TYPES)
    measured = report["measured"]
    assert 0 < measured["kl"] < 3 * report["predicted"]["loss"] + 0.01
    assert measured["kl"] <= measured.get("uniform_kl", np.inf)
    if "max_kl" in asked:
        assert measured["kl"] <= 0.2
    assert ("seconds" in report["predicted"]) == ("latency" in str(asked))


@pytest.mark.models
@pytest.mark.xdist_group("planning")
def test_files(tiny_chat_folder: Path, options: PlanOptions, tmp_path: Path) -> None:
    """The plan file, the front, and the picture of it."""
    planned = plan_model(
        tiny_chat_folder,
        replace(options, bpw="4.2", pareto=True, rules=(Rule.parse("lm_head=int8:row"),)),
    )
    planned.save(tmp_path / "plan.toml")
    plan = read_plan(tmp_path / "plan.toml")
    assert {n: str(t) for n, t in plan.sites.items()} == planned.report["plan"]
    assert plan.sites["lm_head"] == DType.parse("int8:row")
    assert plan.measured["kl"] == pytest.approx(planned.report["measured"]["kl"], rel=1e-5)
    for name, rows in planned.report["fronts"].items():
        assert len(rows) > 8
        assert [r[name] for r in rows] == sorted(r[name] for r in rows)
        assert all(sum(row["shares"].values()) == pytest.approx(1) for row in rows)
    columns, cells = pareto.table(planned.report["fronts"]["bytes"], "kl")
    assert columns == ["KL", "MB", "bpw", "ms per token", "types"]
    assert all(len(row) == len(columns) for row in cells)
    pytest.importorskip("matplotlib")
    for suffix, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        planned.draw(tmp_path / f"front{suffix}")
        assert (tmp_path / f"front{suffix}").read_bytes().startswith(magic)
    drawn = (tmp_path / "front.svg").read_text()
    assert "uniform plans" in drawn and "weights, MB" in drawn


@pytest.mark.models
@pytest.mark.xdist_group("planning")
def test_the_front_alone(tiny_chat_folder: Path, options: PlanOptions) -> None:
    planned = plan_model(tiny_chat_folder, replace(options, pareto=True))
    assert set(planned.report["fronts"]) == {"bytes", "seconds"} and planned.plan is None
    with pytest.raises(LadderError, match="there is no plan to write: give a budget"):
        planned.save(Path("plan.toml"))


@pytest.mark.models
@pytest.mark.xdist_group("planning")
def test_a_plan_that_measures_worse_than_a_uniform_one(
    tiny_chat_folder: Path, options: PlanOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = iter((0.9, 0.5))
    monkeypatch.setattr(plan_check.PlanEvaluator, "loss", lambda self, picks: next(runs))
    report = plan_model(tiny_chat_folder, replace(options, bpw="4.2")).report
    assert set(report["plan"].values()) == {"int3:g32"}
    assert report["measured"] == {"kl": 0.5, "uniform": "int3:g32", "uniform_kl": 0.5}
    assert any("int3:g32 everywhere is measured better (0.5)" in note for note in report["notes"])


@pytest.mark.models
@pytest.mark.xdist_group("planning")
def test_a_kl_limit_holds_for_the_real_run(
    tiny_chat_folder: Path, options: PlanOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worse(self: plan_check.PlanEvaluator, picks: Any) -> float:
        return float(1.5 * self.problem.totals(picks)["loss"])

    monkeypatch.setattr(plan_check.PlanEvaluator, "loss", worse)
    report = plan_model(tiny_chat_folder, replace(options, max_kl="0.2")).report
    assert report["measured"]["kl"] <= 0.2 and report["predicted"]["loss"] <= 0.2 / 1.5
    assert any(note.startswith("a predicted 0.2 was measured as") for note in report["notes"])
    monkeypatch.setattr(plan_check.PlanEvaluator, "loss", lambda self, picks: 9.0)
    report = plan_model(tiny_chat_folder, replace(options, max_kl="0.2")).report
    assert any("--max-kl 0.2 is not met: measured 9" in note for note in report["notes"])


@pytest.mark.models
@pytest.mark.xdist_group("planning")
def test_the_overhead_of_a_token(tiny_chat_folder: Path, options: PlanOptions) -> None:
    """A line through two measured plans."""
    alone = plan_model(tiny_chat_folder, replace(options, latency="1ms")).report
    report = plan_model(tiny_chat_folder, replace(options, latency="1ms", overhead="")).report
    for type, row in report["uniform"].items():
        products = alone["uniform"][type]["seconds"] - 100e-6
        assert row["seconds"] == pytest.approx(MIXED * (SLOPE * products + REST))
    assert any(
        "a token takes 1.25 x its products + 0.1 ms, measured with int2" in n
        for n in report["notes"]
    )
    assert report["measured"]["seconds"] == pytest.approx(report["predicted"]["seconds"])
    within = plan_model(tiny_chat_folder, replace(options, latency="200us", overhead="")).report
    assert within["measured"]["seconds"] <= 200e-6 and within["predicted"]["seconds"] > 190e-6
    refined = plan_model(
        tiny_chat_folder, replace(options, latency="200us", overhead="", refine=1)
    ).report
    assert refined["measured"]["kl"] <= within["measured"]["kl"]
    predicted = refined["predicted"]["seconds"]  # the refined plan was timed too
    assert refined["measured"]["seconds"] == pytest.approx(predicted) and predicted <= 200e-6
    found = plan_model(tiny_chat_folder, replace(options, bpw="4.2", overhead="")).report
    assert "seconds" not in found["predicted"]


@pytest.mark.models
@pytest.mark.xdist_group("planning")
def test_a_time_that_cannot_be_reached(tiny_chat_folder: Path, options: PlanOptions) -> None:
    message = r"--latency 1us cannot be met: the least reachable is \d[\d.]*us per token with int2"
    with pytest.raises(LadderError, match=message):
        plan_model(tiny_chat_folder, replace(options, latency="1us"))


@pytest.mark.models
@pytest.mark.xdist_group("planning")
def test_a_model_of_another_kind(tmp_path: Path) -> None:
    shape = "g (float[M, 64] x) => (float[M, 32] y) { h = MatMul(x, a) y = MatMul(h, b) }"
    onnx.save(graph(shape, {"a": random(64, 64), "b": random(64, 32)}), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=random(3, 5, 64))
    asked = PlanOptions(types=tuple(map(DType.parse, TYPES)), bpw="6", calib=tmp_path / "x.npz")
    report = plan_model(tmp_path / "m.onnx", asked).report
    assert report["metric"] == "mse" and report["measured"]["mse"] > 0
    for calib, message in (
        (None, r"not a language model: give samples of its inputs by name with --calib FILE\.npz"),
        (tmp_path / "none.npz", "no such file; give samples"),
        (tmp_path / "m.onnx", "not an NPZ file; give samples"),
    ):
        with pytest.raises(LadderError, match=message):
            plan_model(tmp_path / "m.onnx", replace(asked, calib=calib))


@pytest.mark.models
def test_nothing_to_plan(tmp_path: Path) -> None:
    onnx.save(graph("g (float[M] x) => (float[M] y) { y = Relu(x) }", {}), tmp_path / "m.onnx")
    with pytest.raises(NothingToQuantize, match="nothing to plan"):
        plan_model(tmp_path / "m.onnx", PlanOptions(bpw="4"))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "no budget: say what the plan may cost with --bpw, --size"),
    ({"bpw": "4", "types": ("int4:g32",)}, "--types: int4:g32 leaves nothing to choose"),
    ({"bpw": "4", "types": ("int4:g32", "int5:g")}, "unknown type 'int5:g'"),
    ({"bpw": "4", "rules": ("lm_head",)}, "write PATTERN=TYPE"),
    ({"bpw": "4", "tokens": 1}, "--tokens 1: give 2 or more"),
    ({"bpw": "4", "windows": 0}, "--windows 0: give a positive number"),
    ({"bpw": "4", "overhead": "3"}, "--overhead '3': write a positive number with a unit"),
    ({"bpw": "4", "target": "z80"}, "z80"),
    ({"bpw": "4", "activation": "int3"}, "unknown activation mode"),
    ({"size": "12"}, "--size '12': write a positive number with a unit"),
]


@pytest.mark.parametrize(("asked", "message"), REFUSED, ids=lambda v: str(v)[:40])
def test_refused_before_anything_is_loaded(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(LadderError, match=message):
        plan_model("no-such-model", PlanOptions(**asked))


# Costs of products.
SHAPES = [(65, 32), (32, 65)]


def test_measured_costs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[product_costs.Key] = []

    def counted(key: product_costs.Key, level: Any, activation: str) -> Timed:
        calls.append(key)
        return fake_timed(key, level, activation)

    monkeypatch.setattr(product_costs, "_timed", counted)
    first = product_costs.product_costs(TYPES[:2], SHAPES, 48, "native")
    assert len(calls) == 2 * 2 * 2 and first.source.startswith("measured: ")
    assert first.decode["int2:g32"]["65x32"] < first.prefill["int2:g32"]["65x32"]
    again = product_costs.product_costs(TYPES[:3], SHAPES, 48, "native")
    assert len(calls) == 8 + 4 and again.decode["int2:g32"] == first.decode["int2:g32"]
    product_costs.product_costs(TYPES[:2], SHAPES, 48, "native", retime=True)
    assert len(calls) == 12 + 8


@pytest.mark.parametrize("busy", [Timed((1.0, 1.5, 1.0)), Timed((1.0, 1.0), cpu=0.5)])
def test_times_of_a_busy_machine_are_not_kept(monkeypatch: pytest.MonkeyPatch, busy: Timed) -> None:
    calls: list[product_costs.Key] = []

    def timed(key: product_costs.Key, level: Any, activation: str) -> Timed:
        calls.append(key)
        return busy if key[0] == "int4:g48" else Timed((2.0,))

    monkeypatch.setattr(product_costs, "_timed", timed)
    asked = ("int4:g48", "int3:g48"), SHAPES[:1], 16, "native"
    first = product_costs.product_costs(*asked, retime=True)
    assert first.source.endswith(
        "; 2 of 4 times were taken while the machine was busy and are not kept; when it is quiet, "
        "give --retime"
    )
    assert first.decode["int4:g48"]["65x32"] == 1.0 and len(calls) == 2 * TRIES + 2
    product_costs.product_costs(*asked)
    assert len(calls) == 2 * (2 * TRIES) + 2


def test_costs_of_another_device(tmp_path: Path) -> None:
    """Measured on the device by one command, read by the plan of another machine."""
    path = tmp_path / "board.json"
    setting = product_costs.Setting.of("native", "int8", 64)
    made = product_costs.bench_device(TYPES, SHAPES, setting, path)
    read = product_costs.product_costs(TYPES, SHAPES, 64, "native", file=path)
    assert (read.decode, read.prefill) == (made.decode, made.prefill)
    assert set(made.decode) == set(TYPES) and made.decode["int2:g32"]["65x32"] > 0
    assert read.source.startswith("measured: ") and read.source.endswith("(from board.json)")
    level = levels_of("native")[-1].name
    others: list[tuple[dict[str, Any], str]] = [
        (
            {"chunk": 64, "target": "arm64"},
            f"was measured with --target {level}, but the plan is for --target arm64",
        ),
        (
            {"chunk": 64, "target": "native", "activation": "table8"},
            "was measured with --activation int8, but the plan is for --activation tab",
        ),
        (
            {"chunk": 32, "target": "native"},
            "was measured with --chunk 64, but the plan is for --chunk 32",
        ),
    ]
    for asked, message in others:
        with pytest.raises(LadderError, match=rf"board\.json: {message}"):
            product_costs.product_costs(TYPES, SHAPES, **asked, file=path)
    with pytest.raises(LadderError) as caught:
        product_costs.product_costs(
            ("int2:g32", "nf4:g32"), [*SHAPES, (9, 9)], 64, "native", file=path
        )
    words = str(caught.value)
    assert "has no time for int2:g32 at 9x9 and 3 more; on the device run: ladder bench" in words
    assert "--types int2:g32,nf4:g32 --shape 9x9 --shape 32x65 --shape 65x32" in words


def test_files_that_are_not_costs(tmp_path: Path) -> None:
    path, setting = tmp_path / "board.json", product_costs.Setting.of("native", "int8", 64)
    for broken, message in (
        ("{", "cannot be read as JSON"),
        ("[]", "not a file of product costs, format 1"),
        ('{"format": 1, "decode": 3}', "its times are not type -> NxK -> positive seconds"),
        ('{"format": 1, "decode": {"int2:g32": {"1x1": -1}}}', "positive seconds"),
    ):
        path.write_text(broken)
        with pytest.raises(LadderError, match=message):
            product_costs.read_costs(path, setting)
    with pytest.raises(LadderError, match="no such costs file; make one with ladder bench dev"):
        product_costs.read_costs(tmp_path / "none.json", setting)


def test_a_device_measures_what_it_can_run(tmp_path: Path) -> None:
    for setting, message in (
        (product_costs.Setting.of("arm64", "int8", 64), "run ladder bench device on the device"),
        (product_costs.Setting.of("native", "fp32", 64), "fp32 has no low-bit products to time"),
    ):
        with pytest.raises(LadderError, match=message):
            product_costs.bench_device(TYPES, SHAPES, setting, tmp_path / "x.json")
    for text in ("3", "3x4x5", "0x4", "axb"):
        with pytest.raises(LadderError, match=f"--shape '{text}': write NxK, for example"):
            product_costs.parse_shapes([text])
    assert product_costs.parse_shapes(["3x4", "5X6"]) == [(3, 4), (5, 6)]
    assert not list(tmp_path.iterdir())


def test_a_target_that_is_not_available_has_a_model_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(product_costs, "runs_here", lambda level: False)
    costs = product_costs.product_costs(TYPES, [(4096, 4096)], 64, "arm64")
    assert costs.source.startswith("a model, not measured: arm64 is not available")
    assert levels_of("arm64")[-1].name == "arm64"
    times = [costs.decode[type]["4096x4096"] for type in TYPES]
    assert times == sorted(times) and costs.prefill["int2:g32"]["4096x4096"] > times[0]


def test_pictures(tmp_path: Path) -> None:
    with pytest.raises(
        LadderError, match=r"--picture .*front\.gif: give a file that ends in \.png"
    ):
        pareto.check_picture(tmp_path / "front.gif")
