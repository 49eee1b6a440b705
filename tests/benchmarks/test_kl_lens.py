"""The comparison of plans guided by KL, by SQNR and by a rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_recipes import TEXT, corpus, tiny

from benchmarks.kl_lens.measure import Saved
from benchmarks.kl_lens.plans import Planner, noise_of
from benchmarks.kl_lens.tables import most_sensitive, plan_table, tau_table
from benchmarks.rank_sites import CALIBRATION, CHANGE, Table, agreement, agreement_of_halves
from ladder.ir.facts import Sensitivity
from ladder.pipeline.plan_file import read_plan

NARROW, WIDE = "int4:row", "int8:row"


@pytest.mark.models
def test_plans_of_a_trained_model(tmp_path: Path) -> None:
    """The mixes use both types; the rule widens x_proj, then the last block."""
    from benchmarks.trained_models.train import trained
    from ladder.pipeline.sources import load_source

    folder = trained(tiny("mamba", 40), corpus())
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    source = load_source(folder)
    planner = Planner(source, folder, (NARROW, WIDE), ("6",), tmp_path, text)
    plans = {name: read_plan(path) for name, path in planner.plans().items()}
    assert list(plans) == [
        f"uniform `{WIDE}`",
        f"uniform `{NARROW}`",
        "KL, 6 bits",
        "SQNR, 6 bits",
        "rule, 6 bits",
    ]
    types = {name: {n: str(t) for n, t in plan.sites.items()} for name, plan in plans.items()}
    assert set(types[f"uniform `{WIDE}`"].values()) == {WIDE}
    for mix in ("KL, 6 bits", "SQNR, 6 bits", "rule, 6 bits"):
        assert set(types[mix].values()) == {NARROW, WIDE}
        assert plans[mix].digest == source.digest
    by_rule = types["rule, 6 bits"]
    assert {t for n, t in by_rule.items() if n.endswith("x_proj")} == {WIDE}
    assert by_rule["backbone.layers.1.mixer.in_proj"] == WIDE
    assert by_rule["backbone.layers.0.mixer.in_proj"] == NARROW


def test_noise_is_the_inverse_of_sqnr() -> None:
    scores = Sensitivity("kl", {"a": {NARROW: {"kl": 1.0, "sqnr": 20.0}}}, 8, "text")
    assert noise_of(scores).scores["a"][NARROW]["mse"] == pytest.approx(0.01)
    assert noise_of(scores).metric == "mse"


def test_values_are_measured_once(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    assert Saved(path).get("speed", "a", lambda: {"x": 1}) == {"x": 1}
    assert Saved(path).get("speed", "a", lambda: {"x": 2}) == {"x": 1}
    assert Saved(path).get("speed", "b", lambda: {"x": 3}) == {"x": 3}
    assert Saved(path, again="quality").get("speed", "a", lambda: {"x": 2}) == {"x": 1}
    assert Saved(path, again="speed").get("speed", "a", lambda: {"x": 2}) == {"x": 2}


def test_agreement_of_measures_with_changes(tmp_path: Path) -> None:
    """KL ranks the sites as their changes do, SQNR one pair otherwise."""
    table = Table(tmp_path / "rank.jsonl", {})
    sites = {"a": (1.0, 30.0, 0.1), "b": (2.0, 10.0, 0.2), "c": (3.0, 20.0, 0.4)}
    for site, (kl, sqnr, change) in sites.items():
        row = {"kl": kl, "reverse_kl": kl, "mse": 1 / sqnr, "cosine": kl, "sqnr": sqnr}
        for part in (CALIBRATION, "part 0", "part 1"):
            table.add(part, site, {**row, CHANGE: change})
    taus = agreement(table, list(sites), ["part 0", "part 1"])
    assert taus["kl"] == (1.0, 1.0)
    assert taus["sqnr"][0] == taus["mse"][0] == pytest.approx(1 / 3)
    assert agreement_of_halves(table, list(sites), ["part 0", "part 1"]) == 1.0
    assert Table.read(table.path).rows == table.rows


def test_tables() -> None:
    row = {"plan": "KL, 5 bits", "perplexity": 100.25, "kl": 0.00125, "bytes": 3_500_000}
    lines = list(plan_table([{**row, "bpw": 4.99, "1": 480.4, "2": 611.0}]))
    assert lines[0].endswith("| tokens a second, 1 thread | tokens a second, 2 threads |")
    assert lines[2] == "| KL, 5 bits | 100.250 | 0.00125 | 3.50 | 4.990 | 480 | 611 |"
    tau = {"kl": 0.8, "reverse_kl": 0.7, "sqnr": 0.6, "mse": 0.6, "cosine": 0.5}
    rank = {"model": "Mamba", "type": NARROW, "sites": 2, "tau": tau, "halves": 0.9}
    assert list(tau_table([rank]))[2] == (
        "| Mamba | `int4:row` | 2 | 0.800 | 0.700 | 0.600 | 0.600 | 0.900 |"
    )
    changes = {"changes": {"a": 0.01, "b": 0.2}}
    assert most_sensitive({**rank, **changes}).endswith("per token: `b` 0.2000, `a` 0.0100.")
