"""The first screen of a report: is the model small, good and fast enough, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ladder.evaluation.measured import BENCH, EVAL, SAMPLE, Results
from ladder.support.quality import USABLE, WEAK, quality

GOOD, FAIR, BAD, UNKNOWN = "good", "fair", "bad", "unknown"
COLOURS = ((USABLE, GOOD), (WEAK, FAIR), (math.inf, BAD))  # KL in nats per token, at most
TEXT = "TEXT.txt"


@dataclass(frozen=True)
class Card:
    """One part of the verdict. ``command`` measures what ``value`` does not know yet."""

    title: str
    value: str
    status: str
    details: tuple[str, ...] = ()
    command: str = ""


def status_of(kl: float) -> str:
    """The colour of a card with this KL divergence from the float model."""
    return next((status for most, status in COLOURS if kl <= most), BAD)


def verdict(report: Mapping[str, Any], found: Results, folder: str, size: int) -> list[Card]:
    """Size, quality, speed and a sample.

    ``folder`` is the artifact in the commands, and ``size`` the bytes that it takes on disk.
    """
    cards = [_size(report, size), _quality(report, found, folder)]
    if report["language_model"]:
        cards += [_speed(found.get(BENCH), folder), _sample(found.get(SAMPLE), folder)]
    return cards


def _size(report: Mapping[str, Any], size: int) -> Card:
    limits, bits = limits_of(report), f"{report['bits_per_weight']:.3f} bits per weight"
    most = limits.get("bytes")
    if "bpw" in limits:
        bits += f", {limits['bpw']:g} asked for"
    if most is None:
        asked = () if limits else ("No limit on the size was asked for.",)
        return Card("Size", _mega(size), GOOD, (f"{bits}, scales included", *asked))
    said = f"{_mega(abs(size - most))} {'over' if size > most else 'under'} the {_mega(most)}"
    details = (f"{said} asked for", f"{bits}, scales included")
    return Card("Size", _mega(size), BAD if size > most else GOOD, details)


def _quality(report: Mapping[str, Any], found: Results, folder: str) -> Card:
    scored, command = found.get(EVAL), f"ladder eval {folder} --text {TEXT}"
    if scored is not None:
        return _scored(scored, command)
    details = tuple(filter(None, [_planned(report), "Perplexity was not measured."]))
    if not report["language_model"]:
        return Card("Quality", "not measured", UNKNOWN, details[:-1])
    loss = planned_loss(report)
    if loss is None:
        return Card("Quality", "not measured", UNKNOWN, details, command)
    return Card("Quality", quality(loss), status_of(loss), details, command)


def _scored(scored: Mapping[str, Any], command: str) -> Card:
    kl, perplexity = scored.get("kl_mean"), scored["perplexity"]
    original = scored.get("reference_perplexity")
    details = [f"Perplexity {perplexity:.4g}" + (f", float {original:.4g}" if original else "")]
    details += [f"KL {kl:.3g} nats per token"] if kl is not None else []
    details.append(f"On {scored['tokens']} tokens of {scored['text']}{_when(scored)}")
    if kl is None:
        details.append("KL was not measured: the float model was not in the cache.")
        return Card("Quality", f"perplexity {perplexity:.4g}", UNKNOWN, tuple(details), command)
    return Card("Quality", quality(kl), status_of(kl), tuple(details))


def _planned(report: Mapping[str, Any]) -> str:
    """The loss of the plan, measured on the calibration data or only predicted."""
    plan = report.get("plan")
    if not plan:
        return "No loss was measured."
    metric = str(plan["predicted"].get("metric", "loss"))
    for kind, loss in (("measured", plan["measured"].get(metric)), ("predicted", _loss_of(plan))):
        if isinstance(loss, int | float):
            text = plan["asked"].get("text", "the calibration data")
            return f"{metric.upper()} {loss:.3g}, {kind} on {text}"
    return ""


def planned_loss(report: Mapping[str, Any]) -> float | None:
    """The KL of the plan, measured on the calibration data; else as predicted."""
    plan = report.get("plan")
    if not plan or plan["predicted"].get("metric") != "kl":
        return None
    loss = plan["measured"].get("kl", _loss_of(plan))
    return float(loss) if isinstance(loss, int | float) else None


def _loss_of(plan: Mapping[str, Any]) -> Any:
    return plan["predicted"].get("loss")


def limits_of(report: Mapping[str, Any], key: str = "limits") -> dict[str, float]:
    """The budget by axis, as asked for, or as ``bounds`` in pictures.

    A plan file may have been edited, so only numbers count.
    """
    plan = report.get("plan") or {}
    limits = plan.get("asked", {}).get(key, {})
    rows = limits.items() if isinstance(limits, Mapping) else ()
    return {axis: float(value) for axis, value in rows if isinstance(value, int | float)}


def _speed(timed: Mapping[str, Any] | None, folder: str) -> Card:
    if timed is None:
        return Card("Speed", "not measured", UNKNOWN, (), f"ladder bench {folder}")
    decode, prefill = timed["decode_tokens_per_s"], timed["prefill_tokens_per_s"]
    details = (
        f"{prefill:.4g} tokens a second of prompt",
        f"{timed['threads']} threads{_when(timed)}",
    )
    return Card("Speed", f"{decode:.4g} tokens a second", GOOD, details)


def _sample(sample: Mapping[str, Any] | None, folder: str) -> Card:
    if sample is None:
        command = f"ladder report {folder} --prompt 'The capital of France is'"
        return Card("Sample", "none yet", UNKNOWN, (), command)
    return Card("Sample", "", GOOD, (sample["prompt"], sample["text"]))


def _when(row: Mapping[str, Any]) -> str:
    said = [str(row[name]) for name in ("machine", "date") if name in row]
    return f" ({', '.join(said)})" if said else ""


def _mega(size: float) -> str:
    return f"{size / 1e6:.1f} MB"
