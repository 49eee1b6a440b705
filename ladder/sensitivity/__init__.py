"""Sensitivity: what a model's output loses when one site alone has one type."""

from __future__ import annotations

from ladder.sensitivity.measure import How, measure, measure_feeds

__all__ = ["How", "measure", "measure_feeds"]
