"""What a compilation prints: the result first, reasons and every name on request."""

from __future__ import annotations

from typing import Any

import pytest

from ladder.cli.outcome import MORE, print_outcome, skipped_lines, summary

KERNEL = {"level": "x86-64-v3", "function": "decode", "scheme": "lut", "activation": "int8"}
REPORT: dict[str, Any] = {
    "sites": [{"role": "mlp.up", "type": "int4:g32", "n": 1000, "k": 2000}],
    "kernels": [
        {**KERNEL, "sites": 2, "type": "int4:g32", "stack": "gate+up", "reason": "lut 1 ms"},
        {**KERNEL, "sites": 1, "type": "int4:g32", "stack": "", "reason": "dot 2 ms"},
    ],
    "skipped": [{"name": f"cos.{i}", "reason": "a table"} for i in range(5)],
    "notes": [],
    "check": {"error": 1e-7, "reason": ""},
    "assumed": ["rounding = mse"],
    "bits_per_weight": 4.5,
}


def printed(verbose: bool, capsys: pytest.CaptureFixture[str]) -> str:
    print_outcome(REPORT, verbose)
    return " ".join(capsys.readouterr().out.split())


def test_short(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(False, capsys)
    assert "x86-64-v3 decode: 3 x lut with int8 activations" in text and "1 ms" not in text
    assert "skipped: cos.0, cos.1, cos.2 and 2 more: a table" in text and "cos.4" not in text
    assert text.endswith(MORE)


def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(True, capsys)
    assert "2 x int4:g32 (gate+up as one): lut with int8 activations: lut 1 ms" in text
    assert "skipped: cos.0, cos.1, cos.2, cos.3, cos.4: a table" in text
    assert MORE not in text


def test_weights_are_grouped_by_reason() -> None:
    rows = [{"name": n, "reason": r} for n, r in (("a", "x"), ("b", "y"), ("c", "x"))]
    assert skipped_lines(rows, False) == ["skipped: a, c: x", "skipped: b: y"]


def test_the_summary_has_the_limit() -> None:
    assert summary(REPORT) == "4.5 bits per weight"
    asked = {**REPORT, "plan": {"asked": {"budget": "bpw 5"}}}
    assert summary(asked) == "4.5 bits per weight (asked: bpw 5)"
