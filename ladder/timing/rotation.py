"""Copies of weights that are taken in turn, so that no product finds its own in a cache."""

from __future__ import annotations

ROTATED_BYTES = 300e6  # more than caches hold
MOST_COPIES = 256


def copies_of(stored: float, rotate: float) -> int:
    """Copies of a weight that take more than ``rotate`` bytes together (small ones: 256)."""
    return 1 + min(int(rotate // stored), MOST_COPIES)
