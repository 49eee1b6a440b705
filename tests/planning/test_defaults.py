"""What is chosen where nobody says it, how large and how good the result is, in words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.dtype import DType
from ladder.ir.facts import StoredCodes
from ladder.options.effort import EFFORTS
from ladder.options.requests import CompileOptions, PlanOptions, QuantizeOptions
from ladder.options.split import SOURCE, plan_options, split
from ladder.passes.allocation.problem import Option, Part, Problem
from ladder.passes.rounding.methods import BY_EFFORT, METHODS
from ladder.pipeline.plan_file import Plan
from ladder.pipeline.rounding_choice import with_rounding
from ladder.planning import one_step
from ladder.planning.cost_estimate import minutes_of
from ladder.planning.default_request import with_default
from ladder.planning.folder_size import folder_bytes
from ladder.planning.verdict import verdict
from ladder.support.disk_space import CLUSTER
from ladder.support.quality import CLOSE, USABLE, WEAK, is_usable, quality

TEXT_MODEL: Any = SimpleNamespace(is_language_model=True)
OTHER_MODEL: Any = SimpleNamespace(is_language_model=False)


def source(language_model: bool, stored: bool = False) -> Any:
    """A model with nothing but what the choice depends on."""
    import onnx_ir as ir

    graph = ir.Graph([], [], nodes=[], opset_imports={"": 23})
    model = ir.Model(graph, ir_version=10)
    if stored:
        facts.put(model, StoredCodes({"a": DType.parse("q4_0")}, {"a": "file"}))
    return SimpleNamespace(is_language_model=language_model, model=model)


def test_what_is_made_without_a_type_or_a_budget() -> None:
    kept = with_default(source(True, stored=True), {"context": 64})
    assert kept.given == {"context": 64, "type": SOURCE} and "--type source" in kept.said
    planned = with_default(source(True), {})
    assert planned.given == {"bpw": "4.25"} and "--bpw 4.25" in planned.said
    plain = with_default(source(False), {"keep": ("a",), "size": ""})
    assert plain.given["type"] == "int8:row" and "int8:row" in plain.said
    for asked in ({"type": "int4:g32"}, {"size": "60MB"}, {"rules": "a=int8:row"}, {"plan": "p"}):
        assert with_default(source(True, stored=True), asked).given == asked


def test_source_is_a_type_of_a_compilation_only() -> None:
    options, asked = split({"type": SOURCE, "context": 64}, CompileOptions)
    assert options == CompileOptions(context=64) and asked is None
    with pytest.raises(LadderError, match="leave out --type source"):
        split({"type": SOURCE, "plan": "p.toml"}, CompileOptions)
    with pytest.raises(LadderError, match="an ONNX file has none: give a type"):
        split({"type": SOURCE}, QuantizeOptions)


def test_an_effort_stands_for_options_that_win_where_given() -> None:
    quick = plan_options({"bpw": 3, "effort": "quick", "tokens": 32})
    assert (quick.windows, quick.tokens) == (1, 32)
    deep = plan_options({"bpw": 3, "effort": "thorough", "refine": 0})
    assert (deep.refine, deep.long_tokens, deep.windows) == (0, 512, 16)
    assert plan_options({"bpw": 3}) == PlanOptions(bpw="3")
    compiled, planned = split({"bpw": 3, "effort": "thorough"}, CompileOptions)
    assert planned is not None and compiled.windows == planned.windows == 16
    with pytest.raises(LadderError, match=r"--effort 'quik': give .*did you mean 'quick'"):
        plan_options({"bpw": 3, "effort": "quik"})
    assert set(BY_EFFORT) == set(EFFORTS) and set(BY_EFFORT.values()) <= set(METHODS)


def test_the_rounding_of_a_plan_is_that_of_its_artifact() -> None:
    asked = PlanOptions(bpw="3")
    assert with_rounding(asked, TEXT_MODEL).rounding == "gptq"
    assert with_rounding(asked, OTHER_MODEL).rounding == "mse"
    assert with_rounding(plan_options({"bpw": 3, "effort": "thorough"}), TEXT_MODEL).rounding == (
        "gptaq"
    )
    assert with_rounding(CompileOptions(), TEXT_MODEL).rounding == "mse"
    plan = Plan("m", "digest", {}, {"rounding": "best"})
    made = with_rounding(CompileOptions(), TEXT_MODEL, plan)
    assert made.rounding == "best" and made.assumed(True)["rounding"] == "best"
    given = CompileOptions(rounding="rtn")
    assert with_rounding(given, TEXT_MODEL, plan) == given
    with pytest.raises(LadderError, match="unknown rounding 'gtpq'"):
        with_rounding(CompileOptions(), TEXT_MODEL, Plan("m", "d", {}, {"rounding": "gtpq"}))


def problem(metric: str = "kl") -> Problem:
    """One weight: 100 bytes lose 4, 200 bytes lose 0.5."""
    small, large = (
        Option(type, {"loss": loss, "bits": bits, "seconds": 0.0, "prefill": 0.0})
        for type, loss, bits in (("int2:g32", 4.0, 800.0), ("int4:g32", 0.5, 1600.0))
    )
    return Problem((Part(("w",), "mlp", 400, (small, large)),), ("int2:g32", "int4:g32"), metric)


def test_a_verdict_says_what_would_be_usable() -> None:
    assert verdict(problem(), 0.1, measured=True) == (
        "KL from the float model, measured: 0.1 nats per token. The result is close to the float "
        "model."
    )
    bad = verdict(problem(), 4.0, measured=False)
    assert "predicted: 4 nats per token. The result is not usable: the text makes no sense." in bad
    assert bad.endswith("takes 200B (4 bits per weight): give --size 200B.")
    assert verdict(problem("mse"), 4.0, measured=True) == ""


@pytest.mark.parametrize(
    ("kl", "word"),
    [(CLOSE, "close to"), (USABLE, "usable"), (WEAK, "weak"), (WEAK + 0.1, "not usable")],
)
def test_words_for_a_divergence(kl: float, word: str) -> None:
    assert quality(kl).startswith(word) and is_usable(kl) == (kl <= WEAK)


def test_a_larger_effort_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = [SimpleNamespace(weight=object(), parameters=135_000_000)]
    monkeypatch.setattr("ladder.planning.cost_estimate.find_sites", lambda model: (sites, []))
    monkeypatch.setattr("ladder.planning.cost_estimate.own_threads", lambda: 2)
    model: Any = SimpleNamespace(model=None, is_language_model=True)
    for effort, about in EFFORTS.items():
        asked = with_rounding(plan_options({"bpw": 3, "effort": effort}), model)
        minutes = minutes_of(model, asked)
        assert about.minutes / 4 <= minutes <= 4 * about.minutes, effort


def test_a_folder_over_the_limit_is_planned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not weights takes 700 kB, and none of it was expected."""
    planned_for: list[int] = []

    def planned(source: Any, asked: Any, save: Any, prepare: Any, others: int | None) -> Plan:
        planned_for.append(others or 0)
        held = {"other_bytes": others or 0}
        return Plan("m", "d", {}, held, predicted={"bytes": 1_990_000.0})

    def compiled(source: Any, output: Any, options: Any, plan: Plan, notes: Any) -> Any:
        weights = 1_990_000 - planned_for[-1]
        (tmp_path / "weights").write_bytes(b"0" * weights)
        (tmp_path / "others").write_bytes(b"0" * 700_000)
        return SimpleNamespace(folder=tmp_path, report=SimpleNamespace(notes=[]))

    monkeypatch.setattr(one_step, "_planned", planned)
    monkeypatch.setattr(one_step, "compile_model", compiled)
    asked = PlanOptions(bpw="", size="2MB")
    made = one_step._compile_planned(TEXT_MODEL, tmp_path, CompileOptions(), asked, None, [])
    assert len(planned_for) == 2 and folder_bytes(tmp_path) <= 2_000_000
    assert made.report.notes == [] and folder_bytes(tmp_path) % CLUSTER == 0
