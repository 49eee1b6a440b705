"""``quantize_onnx`` with its options by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladder.options.requests import QuantizeOptions
from ladder.options.schema import options_of
from ladder.pipeline import quantize


def quantize_onnx(source: Path, target: Path, type: str, **options: Any) -> dict[str, Any]:
    """The report as JSON values."""
    asked = options_of(QuantizeOptions, {"type": type, **options})
    return quantize.quantize_onnx(source, target, asked).to_json()
