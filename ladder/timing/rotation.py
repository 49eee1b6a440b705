"""Copies of weights that are used in turn, so that no product finds its weights in a cache."""

from __future__ import annotations

ROTATED_BYTES = 300e6  # more than a processor cache holds
MOST_COPIES = 256


def copies_of(stored: float, rotate: float) -> int:
    """The number of copies of a weight that together take over ``rotate`` bytes (at most 256)."""
    return 1 + min(int(rotate // stored), MOST_COPIES)
