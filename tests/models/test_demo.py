"""The demo, on a tiny model: every row is measured, and what cannot be used is not asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ladder import demo
from ladder.ir.dtype import DType

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("planning")]
TYPES = tuple(map(DType.parse, ("int2:g32", "int8:row")))


def test_the_demo(
    tiny_chat_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 20)
    plan: dict[str, Any] = {"types": TYPES, "calib": text, "windows": 2, "tokens": 24}
    small = demo.Setting(("8.5",), 96, 64, 32, 16, 4, {**plan, "verify": False}, {"chunk": 16})
    timed = {"decode_tokens_per_s": 10.0, "prefill_tokens_per_s": 20.0}
    monkeypatch.setattr(demo, "bench", lambda folder, filled: timed)
    monkeypatch.setattr(demo, "is_usable", lambda kl: False)
    picture = demo.demonstrate(tiny_chat_folder, text.read_text(), tmp_path / "demo", small)
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "float32, ONNX Runtime" in shown and "--bpw 8.5 (" in shown
    assert "--type source" not in shown  # the weights are floats
    assert demo.QUESTION in shown and "(not asked: " in shown
