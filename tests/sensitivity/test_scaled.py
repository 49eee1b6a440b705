"""Scores of short windows, scaled by long ones."""

from __future__ import annotations

from ladder.ir.facts import Sensitivity
from ladder.sensitivity.scaled import FURTHEST, level_type, scaled


def of(losses: dict[str, dict[str, float]], tokens: int) -> Sensitivity:
    rows = {s: {t: {"kl": x, "mse": 7.0} for t, x in row.items()} for s, row in losses.items()}
    return Sensitivity("kl", rows, tokens, "a text")


def test_each_site_keeps_its_ratios_and_is_scaled_by_long_windows() -> None:
    short = of(
        {"q": {"int2:row": 0.8, "int4:row": 0.2}, "v": {"int2:row": 0.4, "int4:row": 0.1}}, 64
    )
    long = of({"q": {"int4:row": 0.1}, "v": {"int4:row": 0.2}}, 256)
    found = scaled(short, long, "int4:row")
    assert found.scores["q"]["int2:row"] == {"kl": 0.4, "mse": 7.0}
    assert found.scores["v"]["int2:row"] == {"kl": 0.8, "mse": 7.0}
    assert all(found.scores[s]["int4:row"] == long.scores[s]["int4:row"] for s in "qv")
    assert found.text == "a text, scaled by int4:row on 256 tokens of it" and found.tokens == 64
    assert short.scores["q"]["int2:row"]["kl"] == 0.8


def test_very_small_losses_are_not_scaled_far() -> None:
    short = of({"q": {"int4:row": 1e-9}, "v": {"int4:row": 0.0}, "o": {"int4:row": -1e-9}}, 64)
    long = of({"q": {"int4:row": 1e-3}, "v": {"int4:row": 0.2}, "o": {"int4:row": 0.2}}, 256)
    found = scaled(short, long, "int4:row")
    losses = [found.scores[site]["int4:row"]["kl"] for site in "qvo"]
    assert losses == [FURTHEST * 1e-9, 0.0, -1e-9]
    assert found.text.endswith("(3 sites with very small losses scaled by 4 at most)")


def test_long_windows_have_the_middle_type_by_size() -> None:
    assert (
        level_type(["int8:row", "int2:g64:fp16", "int4:g64:fp16", "int3:g64:fp16"])
        == "int3:g64:fp16"
    )
    assert level_type(["int8:row", "int4:row"]) == "int4:row"
