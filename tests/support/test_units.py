"""Sizes and times are read and written."""

from __future__ import annotations

import time

import pytest

from ladder.errors import LadderError
from ladder.support.units import parse_size, parse_time, show_size, show_time


@pytest.mark.parametrize(
    ("text", "size"),
    [("180MB", 180e6), ("96MiB", 96 * 2**20), ("1.5 GB", 1.5e9), ("700kb", 7e5), ("12B", 12)],
)
def test_sizes(text: str, size: float) -> None:
    assert parse_size("--size", text) == size


@pytest.mark.parametrize("value", [1.0, 12.0, 700e3, 180e6, 1.2345e9])
def test_what_is_shown_can_be_read(value: float) -> None:
    """It is rounded to four digits, or up to the next."""
    assert parse_size("--size", show_size(value)) == pytest.approx(value, rel=1e-3)
    assert parse_size("--size", show_size(value, up=True)) >= value
    assert parse_time("--latency", show_time(1e-6 * value, up=True)) >= 1e-6 * value * (1 - 1e-12)


@pytest.mark.parametrize(
    "text", ["9" * 50_000, " " * 50_000, "1e" + "9" * 50_000, "1" + "a" * 50_000]
)
def test_a_long_text_is_refused_at_once(text: str) -> None:
    start = time.process_time()
    with pytest.raises(LadderError, match="write a positive number with a unit"):
        parse_size("--size", text)
    assert time.process_time() - start < 1
