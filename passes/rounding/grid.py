"""The values of codes, and how to find the one nearest to a number.

The search has two steps. ``nearest`` and ``places`` are fast and exact except for floats next to
the midpoint of two values; ``Coder.encode`` settles those by decoding the neighbours.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np

from ladder.ir.element import Element
from ladder.ir.numerics import F32, U8

HIGH_HALF = 1 if sys.byteorder == "little" else 0  # of a float32 seen as two uint16
NEAR_MIDPOINT = np.float32(0.498)  # w / s + z is off by less than 0.002, see scales.zero_reach
EDGE = 1e-6  # relative error of w / s, with some room


class Grid(Protocol):
    """The values of an element, ascending and distinct, float32 [V].

    Ties go, for integers, to the even value; for code books away from zero where the midpoint
    has at most 8 significant bits (every small float), else to either side, always the same.
    """

    @property
    def values(self) -> F32:
        """The value of every used code."""

    def nearest(self, t: F32) -> F32:
        """The value nearest to each element of ``t``, which may be overwritten."""

    def places(self, t: F32) -> tuple[U8, np.ndarray]:
        """Indices into ``values``, and whether a neighbour might be as near (bool)."""


@dataclass(frozen=True, eq=False)
class IntegerGrid:
    """Consecutive integers: arithmetic is faster than any table."""

    values: F32

    def nearest(self, t: F32) -> F32:
        np.rint(t, out=t)
        clipped: F32 = np.clip(t, self.values[0], self.values[-1], out=t)
        return clipped

    def places(self, t: F32) -> tuple[U8, np.ndarray]:
        near = np.rint(t)
        unsure = np.abs(t - near) > NEAR_MIDPOINT
        np.clip(near, self.values[0], self.values[-1], out=near)
        near -= self.values[0]
        return near.astype(np.uint8), unsure


@dataclass(frozen=True, eq=False)
class TableGrid:
    """Any values, by a table over the upper 16 bits of a float32 (sign, exponent, 7 bits).

    It is twenty times faster than a binary search. The midpoints of small floats have few bits, and
    so are on the edges of the table's cells.
    """

    values: F32
    place: U8  # of the middle of each cell
    value: F32
    unsure: np.ndarray  # whether the cell, or its edge, holds a midpoint

    @staticmethod
    def of(values: F32) -> TableGrid | SearchGrid:
        """The table, or a binary search if values are too close for a table."""
        middle = _midpoints(values)
        cell = np.arange(1 << 16, dtype=np.uint32) << 16
        inner, outer = (_finite(cell | bits) for bits in (0, 0xFFFF))
        first = np.searchsorted(middle, inner * (1 - EDGE))
        last = np.searchsorted(middle, outer * (1 + EDGE))
        if np.abs(last - first).max() > 1:
            return SearchGrid(values)
        place = np.searchsorted(middle, _finite(cell | 0x8000)).astype(np.uint8)
        return TableGrid(values, place, values[place], first != last)

    def nearest(self, t: F32) -> F32:
        # "clip" avoids a check of the range; 16 bits are never outside.
        found: F32 = np.take(self.value, _cells(t), mode="clip")
        return found

    def places(self, t: F32) -> tuple[U8, np.ndarray]:
        cells = _cells(t)
        return np.take(self.place, cells, mode="clip"), np.take(self.unsure, cells, mode="clip")


@dataclass(frozen=True, eq=False)
class SearchGrid:
    """Values closer than 1 in 128: a binary search over the midpoints."""

    values: F32

    def nearest(self, t: F32) -> F32:
        found: F32 = self.values[self.places(t)[0]]
        return found

    def places(self, t: F32) -> tuple[U8, np.ndarray]:
        place = np.searchsorted(_midpoints(self.values), t).astype(np.uint8)
        return place, np.ones(t.shape, bool)


@cache
def grid_of(element: Element) -> Grid:
    """The element's grid; of codes with equal values (two zeros) one is kept."""
    if not element.book and element.step == 1:
        return IntegerGrid(element.values)
    return TableGrid.of(_distinct(element)[0])


@cache
def codes_of(element: Element) -> np.ndarray:
    """The code of each of the grid's values, as the IR stores it."""
    return element.from_unsigned(_distinct(element)[1].astype(np.uint8))


def _distinct(element: Element) -> tuple[F32, np.ndarray]:
    """Ascending values without those of unused codes, and their unsigned codes."""
    used = np.flatnonzero(np.isfinite(element.values))
    values, first = np.unique(element.values[used], return_index=True)
    return values + np.float32(0), used[first]  # + 0: no negative zero


def _midpoints(values: F32) -> np.ndarray:
    wide = values.astype(np.float64)
    middle: np.ndarray = (wide[1:] + wide[:-1]) / 2
    return middle


def _finite(bits: np.ndarray) -> np.ndarray:
    """Bits of float32 as float64; infinities and NaNs become the largest value of their sign."""
    with np.errstate(invalid="ignore"):
        numbers = bits.astype(np.uint32).view(np.float32).astype(np.float64)
    largest = np.where(bits >> 31, -1.0, 1.0) * float(np.finfo(np.float32).max)
    return np.where(np.isfinite(numbers), numbers, largest)


def _cells(t: F32) -> np.ndarray:
    halves: np.ndarray = t.view(np.uint16)[..., HIGH_HALF::2]
    return halves
