"""The storage of codes in memory, one row for each. Shapes: ``ladder.codegen.layout``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

from ladder.ir.onnx_lines import shape, whole_number

TILE, CHUNK, LANES, GROUP = 64, 16, 16, 4  # as in ladder.codegen.layout
Lines = Callable[[int, int], list[str]]


@dataclass(frozen=True)
class Storage:
    """Bit planes, or several codes in a byte, in units that do not depend on scale blocks."""

    name: str  # part of the names of kernels; empty for bit planes
    noun: str
    elements: tuple[str, ...] = ()  # the elements that are stored like this
    weights: tuple[int, ...] = ()  # of the codes in a byte, the largest first
    part: int = 16  # chunks that are unpacked at a time if one sum covers all of K
    # Lines that turn padded codes x [rows, columns] into bytes y and back, except for bit planes.
    pack: Lines | None = None
    unpack: Lines | None = None

    @property
    def per_byte(self) -> int:
        """Codes in a byte; 0 for bit planes."""
        return len(self.weights)

    @property
    def quads(self) -> int:
        """Quads in a unit; for bit planes, a unit is a chunk."""
        return self.per_byte or GROUP

    @property
    def unit_chunks(self) -> int:
        """The number of chunks after which a unit also ends."""
        return self.quads // gcd(self.quads, GROUP)


TRIT_WEIGHTS = (84, 28, 9, 3, 1)  # ladder.codegen.layout explains them


def _units(columns: int) -> tuple[int, int]:
    """(quads, units of five quads) of a padded row."""
    quads = columns // GROUP
    return quads, -(-quads // len(TRIT_WEIGHTS))


def _pack_trits(rows: int, columns: int) -> list[str]:
    """Stored is 84 c0 + 28 c1 + 9 c2 + 3 c3 + c4."""
    (quads, units), tiles = _units(columns), rows // TILE
    weights = ", ".join(map(str, TRIT_WEIGHTS))
    return [
        shape("split", rows, columns // CHUNK, GROUP, GROUP),
        "parts = Reshape (x, split)",
        "turned = Transpose <perm=[0, 1, 3, 2]> (parts)",
        shape("flat", rows, quads, GROUP),
        "quads = Reshape (turned, flat)",
        shape("ends", 0, 0, 0, 0, units * len(TRIT_WEIGHTS) - quads, 0),
        "whole = Pad (quads, ends)",
        shape("by_unit", rows, units, len(TRIT_WEIGHTS), GROUP),
        "fives = Reshape (whole, by_unit)",
        "wide = Cast <to=6> (fives)",
        f"weights64 = Constant <value_ints=[{weights}]> ()",
        "weights32 = Cast <to=6> (weights64)",
        shape("spread", len(TRIT_WEIGHTS), 1),
        "weights = Reshape (weights32, spread)",
        "weighed = Mul (wide, weights)",
        shape("axis", 2),
        "number = ReduceSum <keepdims=0> (weighed, axis)",
        "bytes = Cast <to=2> (number)",
        shape("in_tiles", tiles, TILE, units, GROUP),
        "tiles = Reshape (bytes, in_tiles)",
        "lines = Transpose <perm=[0, 2, 1, 3]> (tiles)",
        shape("vectors", tiles, units, 2, 2, LANES, GROUP),
        "y = Reshape (lines, vectors)",
    ]


def _unpack_trits(rows: int, columns: int) -> list[str]:
    """The codes of a byte, that with the largest weight first."""
    (quads, units), tiles = _units(columns), rows // TILE
    lines = [
        shape("in_tiles", tiles, units, TILE, GROUP),
        "lines = Reshape (x, in_tiles)",
        "tiles = Transpose <perm=[0, 2, 1, 3]> (lines)",
        shape("by_unit", rows, units, GROUP),
        "bytes = Reshape (tiles, by_unit)",
        "rest0 = Cast <to=6> (bytes)",
        shape("axis", 2),
    ]
    for i, weight in enumerate(TRIT_WEIGHTS):
        lines += [
            *whole_number(f"weight{i}", weight),
            f"digit{i} = Div (rest{i}, weight{i})",
            f"rest{i + 1} = Mod (rest{i}, weight{i})",
            f"deep{i} = Unsqueeze (digit{i}, axis)",
        ]
    every = ", ".join(f"deep{i}" for i in range(len(TRIT_WEIGHTS)))
    return [
        *lines,
        f"fives = Concat <axis=2> ({every})",
        "digits = Cast <to=2> (fives)",
        shape("long", rows, units * len(TRIT_WEIGHTS) * GROUP),
        "row = Reshape (digits, long)",
        shape("start", 0),
        shape("end", quads * GROUP),
        shape("along", 1),
        "cut = Slice (row, start, end, along)",
        shape("split", rows, columns // CHUNK, GROUP, GROUP),
        "quads = Reshape (cut, split)",
        "turned = Transpose <perm=[0, 1, 3, 2]> (quads)",
        shape("flat", 1, rows, columns),
        "y = Reshape (turned, flat)",
    ]


PLANES = Storage("", "planes")
TRITS = Storage(
    "trits", "trits", ("ternary",), TRIT_WEIGHTS, part=5, pack=_pack_trits, unpack=_unpack_trits
)
STORAGES = {storage.name: storage for storage in (PLANES, TRITS)}


def storage_of(element: str) -> Storage:
    """The storage of an element's codes, by the element's name."""
    return next((s for s in STORAGES.values() if element in s.elements), PLANES)
