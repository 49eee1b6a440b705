"""The words on the first screen follow the numbers, and what is unknown names a command."""

from __future__ import annotations

from typing import Any

import pytest

from ladder.evaluation.measured import BENCH, EVAL, SAMPLE
from ladder.evaluation.verdict import BAD, FAIR, GOOD, UNKNOWN, Card, verdict
from ladder.support.quality import quality


def report(**changed: Any) -> dict[str, Any]:
    plain = {"bits_per_weight": 4.25, "size_bytes": 60_000_000, "language_model": True}
    return {**plain, "plan": None, **changed}


def plan(limits: Any, kl: Any = 0.1, metric: str = "kl") -> dict[str, Any]:
    asked = {"limits": limits, "text": "calibration.txt"}
    return {
        "asked": asked,
        "predicted": {"metric": metric, "loss": 0.2},
        "measured": {metric: kl} if kl is not None else {},
    }


def cards(found: dict[str, Any] | None = None, **changed: Any) -> list[Card]:
    return verdict(report(**changed), found or {}, "DIR", 61_000_000)


SIZES = [
    (None, GOOD, "No limit on the size was asked for."),
    (plan({"bytes": 62e6}), GOOD, "1.0 MB under the 62.0 MB asked for"),
    (plan({"bytes": 60e6}), BAD, "1.0 MB over the 60.0 MB asked for"),
    (plan({"bpw": 4.5}), GOOD, "4.250 bits per weight, 4.5 asked for, scales included"),
    (plan({"bytes": "60MB"}), GOOD, "No limit on the size was asked for."),
]


@pytest.mark.parametrize(("made", "status", "said"), SIZES)
def test_size(made: Any, status: str, said: str) -> None:
    size = cards(plan=made)[0]
    assert (size.value, size.status) == ("61.0 MB", status) and said in size.details


LOSSES = [(0.01, GOOD), (0.6, GOOD), (0.7, FAIR), (1.6, BAD)]


@pytest.mark.parametrize(("kl", "status"), LOSSES)
def test_quality(kl: float, status: str) -> None:
    scored = {"perplexity": 27.2, "tokens": 1024, "text": "t.txt", "kl_mean": kl}
    card = cards({EVAL: {**scored, "reference_perplexity": 25.0, "date": "2026-01-02"}})[1]
    assert (card.value, card.status, card.command) == (quality(kl), status, "")
    assert card.details[0] == "Perplexity 27.2, float 25"
    assert card.details[-1] == "On 1024 tokens of t.txt (2026-01-02)"
    planned = cards(plan=plan({}, kl))[1]
    assert (planned.value, planned.status) == (quality(kl), status)
    assert planned.details[0] == f"KL {kl:.3g}, measured on calibration.txt"
    assert planned.command == "ladder eval DIR --text TEXT.txt"


def test_what_is_not_known() -> None:
    size, *others = cards()
    assert size.command == "" and [card.status for card in others] == [UNKNOWN] * 3
    commands = ["ladder eval DIR", "ladder bench DIR", "ladder report DIR --prompt"]
    assert all(c.command.startswith(text) for c, text in zip(others, commands, strict=True))
    predicted = cards(plan=plan({}, None))[1]
    assert predicted.details[0] == "KL 0.2, predicted on calibration.txt"
    alone = {EVAL: {"perplexity": 27.2, "tokens": 9, "text": "t", "kl_mean": None}}
    scored = cards(alone)[1]
    assert (scored.value, scored.status) == ("perplexity 27.2", UNKNOWN)
    assert "KL was not measured: the float model was not in the cache." in scored.details


def test_models_without_text_have_no_words() -> None:
    found = cards(language_model=False, plan=plan({}, 0.1, "mse"))
    assert [card.title for card in found] == ["Size", "Quality"]
    assert (found[1].status, found[1].command) == (UNKNOWN, "")
    assert found[1].details == ("MSE 0.1, measured on calibration.txt",)


def test_speed_and_sample() -> None:
    timed = {"decode_tokens_per_s": 41.26, "prefill_tokens_per_s": 300.0, "threads": 2}
    sample = {"prompt": "The capital", "text": " of France"}
    _, _, speed, text = cards({BENCH: timed, SAMPLE: sample})
    assert speed.value == "41.26 tokens a second" and "300 tokens a second of prompt" in (
        speed.details
    )
    assert text.details == ("The capital", " of France") and text.command == ""
